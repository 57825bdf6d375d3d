"""How fast documents are compared with scored items: AUTOMIXER_TEST_DATA=... python -m benchmarks.leakage_speed

Every text of the folder's corpora (`corpora/*.parquet`) against the items of its benchmarks (`benchmarks/*/
validation.jsonl`, an item being all its text fields in a row), from source files to `leakage` shards. Baseline: the
same definition in plain Python, a set of word tuples and one window at a time, on the first documents of every corpus.
CPU time of this process, one thread.
"""

from __future__ import annotations

import json
import os
import resource
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from automixer_assets.corpus.inventory import take_inventory
from automixer_assets.corpus.leakage import NGRAM_WORDS, SHORTEST_ITEM_WORDS, write_leakage

BASELINE_DOCUMENTS_PER_CORPUS = 20


def main() -> None:
    """Print a Markdown table: documents, megabytes and flagged documents per CPU second, and the ratio."""
    if "AUTOMIXER_TEST_DATA" not in os.environ:
        print("leakage_speed: skipped, AUTOMIXER_TEST_DATA names no folder with corpora and benchmarks")
        return
    if pl.thread_pool_size() > 1:
        print("note: set POLARS_MAX_THREADS=1 to compare one thread with one")
    data = Path(os.environ["AUTOMIXER_TEST_DATA"])
    items, texts = read_items(data / "benchmarks"), read_texts(data / "corpora")
    few = [text for each in texts for text in each[:BASELINE_DOCUMENTS_PER_CORPUS]]
    print(f"{items.height:,} items\n")
    print("| | documents | MB | CPU s | documents/s | MB/s | flagged |\n|---|---|---|---|---|---|---|")
    fast = report("leakage", [text for each in texts for text in each], lambda all_: flagged(items, all_))
    slow = report("plain Python", few, lambda some: flagged_plainly(items["text"].to_list(), some))
    print(f"\n{fast / slow:.0f} times as many megabytes per CPU second as plain Python")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:,.0f} MiB, corpus included")


def read_items(folder: Path) -> pl.DataFrame:
    """The items in the columns of scored_items."""
    rows = []
    for path in sorted(folder.glob("*/validation.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            text = " ".join(value for value in json.loads(line).values() if isinstance(value, str))
            rows.append((path.parent.name, "final", f"{path.parent.name}-{number}", text, text))
    return pl.DataFrame(rows, ["task", "item_set", "item_hash", "text", "question"], orient="row")


def read_texts(folder: Path) -> list[list[str]]:
    """The texts of each corpus that are not empty."""
    tables = (pl.read_parquet(path, columns=["text"])["text"].drop_nulls() for path in sorted(folder.glob("*.parquet")))
    return [[text for text in table if text.strip()] for table in tables]


def report(name: str, texts: Sequence[str], flag: Callable[[Sequence[str]], tuple[float, int]]) -> float:
    """Print a row; returns megabytes per CPU second."""
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    seconds, n_flagged = flag(texts)
    rates = f"{len(texts) / seconds:,.0f} | {megabytes / seconds:.1f}"
    print(f"| {name} | {len(texts):,} | {megabytes:.1f} | {seconds:.1f} | {rates} | {n_flagged} |", flush=True)
    return megabytes / seconds


def flagged(items: pl.DataFrame, texts: Sequence[str]) -> tuple[float, int]:
    """CPU seconds and flagged documents of `write_leakage`, the inventory not counted."""
    with TemporaryDirectory() as name:
        snapshot, inventory, out = (Path(name) / part for part in ("snapshot", "inventory", "out"))
        for folder in (snapshot, inventory, out):
            folder.mkdir()
        ids = [str(number) for number in range(len(texts))]
        pl.DataFrame({"id": ids, "text": texts}).write_parquet(snapshot / "texts.parquet", row_group_size=4096)
        take_inventory(snapshot, inventory, documents_per_shard=50_000)
        begun = time.process_time()
        write_leakage(inventory, snapshot, items, out)
        seconds = time.process_time() - begun
        return seconds, pl.read_parquet(out / "*.parquet").filter(pl.col("n_ngrams") > 0).height


def flagged_plainly(items: Sequence[str], texts: Sequence[str]) -> tuple[float, int]:
    """The same by plain Python, the index not counted."""
    looked_for = {sequence for item in items for sequence in sequences(plain_words(item))}
    lengths = sorted({len(sequence) for sequence in looked_for})
    begun, count = time.process_time(), 0
    for text in texts:
        words = plain_words(text)
        windows = (tuple(words[i : i + n]) for n in lengths for i in range(len(words) - n + 1))
        count += any(window in looked_for for window in windows)
    return time.process_time() - begun, count


def plain_words(text: str) -> list[str]:
    """Words as `corpus/words.py` defines them."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in folded).split()


def sequences(words: Sequence[str]) -> list[tuple[str, ...]]:
    """The word sequences that an item is looked for by."""
    n = min(len(words), NGRAM_WORDS)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] if n >= SHORTEST_ITEM_WORDS else []


if __name__ == "__main__":
    main()
