"""Documents that repeat scored benchmark items: they share 13 consecutive words with one (DESIGN: leakage).

An item is looked for in two texts: its question with the gold answer, and its question alone without the words that
open and close the questions of its whole task ("Question: ... Answer:"), since a page may quote an item without its
answer and in another form. A text of 13 words or more gives all its 13-word sequences, one of 8 to 12 words gives
itself as a whole, and a shorter one nothing: an item that gives nothing cannot be checked, which is counted.
Words are those of `words.py`. Every hit is exact: hashes only say where to compare.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import polars as pl

from automixer_assets.corpus.inventory import text_batches, verify_sources
from automixer_assets.corpus.ngrams import NgramIndex, build_index
from automixer_assets.corpus.words import normalised_words
from automixer_assets.files import atomic_path

LEAKAGE_VERSION = "1"
"""Raise when words, sequences or columns change: every snapshot is then read again."""
NGRAM_WORDS = 13
SHORTEST_ITEM_WORDS = 8
BATCH_CHARACTERS = 2**22
"""Texts are compared in batches of about four million characters, which bounds memory."""

LEAKAGE_SCHEMA = {
    "doc_id": pl.String,
    "n_ngrams": pl.Int64,
    "n_items": pl.Int64,
    "task": pl.String,
    "item_set": pl.String,
    "item_hash": pl.String,
    "shared_words": pl.String,
}


def checkable_texts(items: pl.DataFrame) -> pl.DataFrame:
    """The texts that items are looked for by: `item` (row of `items`) and `words`; items without one are absent.

    Args:
        items: one row per item; columns `task`, `text` (question and gold answer), `question`.
    """
    whole = pl.DataFrame({"item": range(len(items)), "words": normalised_words(items["text"])})
    questions = _without_frames(items["task"], normalised_words(items["question"]))
    # A longer question's sequences are among those of the whole text.
    short = questions.filter(pl.col("words").list.len() < NGRAM_WORDS)
    texts = pl.concat([whole.cast({"item": pl.Int64}), short.cast({"item": pl.Int64})])
    return texts.filter(pl.col("words").list.len() >= SHORTEST_ITEM_WORDS).sort("item", maintain_order=True)


def index_items(items: pl.DataFrame) -> NgramIndex:
    """The index of the items' word sequences; owners are rows of `items`."""
    texts = checkable_texts(items)
    return build_index(texts["words"], texts["item"].to_list(), shortest=SHORTEST_ITEM_WORDS, longest=NGRAM_WORDS)


def write_leakage(
    inventory: Path,
    snapshot_folder: Path,
    items: pl.DataFrame,
    out: Path,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write `shard-NNNNN.parquet` (docs/tables.md), row-aligned with the inventory's shards; existing ones are kept.

    Memory is bounded by the items' index, one batch of texts and one shard of document metadata.

    Raises:
        AutomixerError: a source file is gone or changed since the inventory.
    """
    verify_sources(snapshot_folder, pl.read_parquet(inventory / "files.parquet"))
    index = index_items(items)
    for path in sorted((inventory / "documents").glob("shard-*.parquet")):
        documents = pl.read_parquet(path)
        if not (out / path.name).exists():
            found = [
                _leaks(texts, items, index) for texts in text_batches(snapshot_folder, documents, BATCH_CHARACTERS)
            ]
            table = pl.concat([pl.DataFrame(schema=LEAKAGE_SCHEMA).drop("doc_id"), *found])
            with atomic_path(out / path.name) as temporary:
                table.insert_column(0, documents["doc_id"]).write_parquet(temporary)
        if on_progress is not None:
            on_progress(documents.height)


def _leaks(texts: pl.Series, items: pl.DataFrame, index: NgramIndex) -> pl.DataFrame:
    """A row per text: LEAKAGE_SCHEMA without doc_id."""
    words = normalised_words(texts)
    found = index.find(words)
    named = items.select("task", "item_set", "item_hash").with_columns(owner=pl.int_range(len(items), dtype=pl.Int64))
    leaks = (
        found.group_by("text")
        .agg(pl.col("ngram").n_unique().alias("n_ngrams"))
        .join(_most_shared(found, index.owners), on="text")
        .join(named, on="owner")
        .join(_first_shared(found, words), on="text")
    )
    rows = pl.DataFrame({"text": range(len(texts))}, schema={"text": pl.Int64})
    table = rows.join(leaks, on="text", how="left", maintain_order="left")
    table = table.with_columns(pl.col("n_ngrams", "n_items").fill_null(0))
    return table.select(pl.col(name).cast(type_) for name, type_ in LEAKAGE_SCHEMA.items() if name != "doc_id")


def _most_shared(found: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """Per text the item that shares most sequences with it, ties to the earlier item: `text, owner, n_items`."""
    shared = found.select("text", "ngram").unique().join(owners, on="ngram").group_by("text", "owner").len()
    ranked = shared.sort("text", "len", "owner", descending=[False, True, False])
    return ranked.group_by("text", maintain_order=True).agg(pl.col("owner").first(), pl.len().alias("n_items"))


def _first_shared(found: pl.DataFrame, words: pl.Series) -> pl.DataFrame:
    """Per text its first shared sequence, for a person to judge: `text, shared_words`."""
    first = found.group_by("text", maintain_order=True).first()
    first = first.with_columns(words.gather(first["text"]).alias("words"))
    return first.select("text", pl.col("words").list.slice("start", "length").list.join(" ").alias("shared_words"))


def _without_frames(tasks: pl.Series, words: pl.Series) -> pl.DataFrame:
    """Questions without the words with which all questions of their task begin, and end: `item`, `words`."""
    questions = pl.DataFrame({"item": range(len(tasks)), "task": tasks, "words": words})
    frames = [(str(task), *_frame(group["words"].to_list())) for (task,), group in questions.group_by("task")]
    framed = questions.join(pl.DataFrame(frames, ["task", "opening", "closing"], orient="row"), on="task")
    inner = pl.col("words").list.len().cast(pl.Int64) - pl.col("opening") - pl.col("closing")
    return framed.select("item", pl.col("words").list.slice(pl.col("opening"), inner)).sort("item")


def _frame(questions: list[list[str]]) -> tuple[int, int]:
    """How many words all questions share at their beginning, and at their end; none where all are the same."""
    opening = _shared_words(questions)
    if opening == max(map(len, questions)):
        return 0, 0
    return opening, _shared_words([question[opening:][::-1] for question in questions])


def _shared_words(texts: list[list[str]]) -> int:
    """With how many words all texts begin."""
    return sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*texts, strict=False)))
