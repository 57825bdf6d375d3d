"""Documents that repeat scored items are flagged, row by row beside the inventory, and others are not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus import leakage
from automixer_assets.corpus.leakage import LEAKAGE_SCHEMA, checkable_texts, write_leakage
from automixer_assets.errors import AutomixerError
from automixer_assets_tests.corpus.builders import documents_of, folder, inventory_of, write_source
from automixer_assets_tests.corpus.test_ngrams import words_by_character

LONG = "Why does the moon seem larger near the horizon than high up in the clear night sky"
ITEMS = [
    ("moon", "selection", LONG, "an illusion"),
    ("moon", "final", "Which planet of the sun has the most moons that we know of by now", "Saturn"),
    ("short", "final", "Question: How many legs does a grown common garden spider have? Answer:", "eight"),
    ("short", "final", "Question: What is the boiling point of water on high mountains? Answer:", "lower"),
    ("tiny", "final", "Is it?", "yes"),
]


def items_frame(items: Sequence[tuple[str, str, str, str]] = ITEMS) -> pl.DataFrame:
    rows = [(task, item_set, f"{task}-{i}", f"{q} {answer}", q) for i, (task, item_set, q, answer) in enumerate(items)]
    return pl.DataFrame(rows, ["task", "item_set", "item_hash", "text", "question"], orient="row")


def leaks_of(root: Path, texts: Sequence[str], items: pl.DataFrame, documents_per_shard: int = 3) -> pl.DataFrame:
    snapshot = root / "snapshot"
    write_source(snapshot / "a.parquet", [(f"d{i}", text) for i, text in enumerate(texts)])
    inventory = inventory_of(snapshot, root / "inventory", documents_per_shard)
    (root / "out").mkdir()
    write_leakage(inventory, snapshot, items, root / "out")
    table = pl.read_parquet(root / "out" / "*.parquet")
    assert table["doc_id"].to_list() == documents_of(inventory)["doc_id"].to_list()
    assert dict(table.schema) == LEAKAGE_SCHEMA
    return table


def flags(tmp_path: Path, texts: Sequence[str]) -> list[str | None]:
    return leaks_of(tmp_path, texts, items_frame())["item_hash"].to_list()


def test_thirteen_words_in_a_row_are_a_leak_and_twelve_are_not(tmp_path: Path) -> None:
    words = LONG.split()
    twelve, thirteen = " ".join(words[1:13]), " ".join(words[1:14])
    texts = [f"He asked: {thirteen}.", f"He asked: {twelve}.", f"{thirteen.upper()}", f"{twelve} but {words[13]}"]
    assert flags(tmp_path, texts) == ["moon-0", None, "moon-0", None]


def test_a_short_item_is_looked_for_as_a_whole_with_its_answer_or_without_its_frame(tmp_path: Path) -> None:
    texts = [
        "Question: How many legs does a grown common garden spider have? Answer: eight",
        "Quiz 7. How many legs does a grown common garden spider have? (a) six (b) eight",
        "How many legs does a grown common garden beetle have? Eight?",
        "How many legs does a grown common garden spider",
    ]
    assert flags(tmp_path, texts) == ["short-2", "short-2", None, None]


def test_an_item_of_fewer_than_eight_words_is_not_looked_for(tmp_path: Path) -> None:
    assert sorted(checkable_texts(items_frame())["item"].unique()) == [0, 1, 2, 3]
    assert flags(tmp_path, ["Is it? yes", "is it yes"]) == [None, None]


def test_the_item_that_shares_most_is_named_and_all_are_counted(tmp_path: Path) -> None:
    """Thirteen words of the first item, then the whole of the second."""
    other = ITEMS[1][2]
    (row,) = leaks_of(tmp_path, [" ".join(LONG.split()[:13]) + " -- " + other], items_frame()).to_dicts()
    n_words = len(other.split())
    assert (row["n_ngrams"], row["n_items"]) == (1 + n_words - 13 + 1, 2)
    assert (row["task"], row["item_set"], row["item_hash"]) == ("moon", "final", "moon-1")
    assert row["shared_words"] == " ".join(LONG.lower().split()[:13])


def reference(text: str, items: pl.DataFrame) -> tuple[int, set[str]]:
    """Different shared sequences and the items that they are of, one window at a time; questions share no frame."""
    words = words_by_character(text)
    shared, hit = set(), set()
    for item in items.iter_rows(named=True):
        for part in (item["text"], item["question"]):
            looked_for = words_by_character(part)
            n = min(len(looked_for), 13)
            if n < 8:
                continue
            own = {tuple(looked_for[i : i + n]) for i in range(len(looked_for) - n + 1)}
            windows = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
            if own & windows:
                hit.add(item["item_hash"])
                shared |= own & windows
    return len(shared), hit


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_counts_agree_with_plain_python(seed: int) -> None:
    """Texts of two words, pieced together from stretches of items, so that windows of all lengths nearly match."""
    rng = random.Random(seed)

    def stretch(n: int) -> str:
        return " ".join(rng.choice(["ha", "ho"]) for _ in range(n))

    items = items_frame([("t", "final", f"{i} {stretch(rng.randint(3, 18))} {i}", stretch(1)) for i in range(6)])
    questions = items["question"].to_list()
    texts = [
        " ".join(rng.choice([rng.choice(questions), stretch(20), rng.choice(questions)[2:-1]]) for _ in range(3)) + "."
        for _ in range(7)
    ]
    with folder() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(leakage, "BATCH_CHARACTERS", 150)
        table = leaks_of(root, texts, items)
    for text, row in zip(texts, table.iter_rows(named=True), strict=True):
        n_ngrams, hit = reference(text, items)
        assert (row["n_ngrams"], row["n_items"]) == (n_ngrams, len(hit))
        assert row["item_hash"] in hit if hit else row["item_hash"] is None


def test_a_finished_shard_is_not_read_again_and_bytes_are_those_of_one_pass(tmp_path: Path) -> None:
    texts = [f"{number} {LONG}" if number % 2 else f"{number} nothing" for number in range(7)]
    leaks_of(tmp_path, texts, items_frame())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 3
    kept = tmp_path / "out" / "shard-00001.parquet"
    modified = kept.stat().st_mtime_ns
    (tmp_path / "out" / "shard-00000.parquet").unlink()
    write_leakage(tmp_path / "inventory", tmp_path / "snapshot", items_frame(), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert kept.stat().st_mtime_ns == modified


def test_a_source_that_changed_since_the_inventory_is_refused(tmp_path: Path) -> None:
    leaks_of(tmp_path, ["one"], items_frame())
    write_source(tmp_path / "snapshot" / "a.parquet", [("d0", "two")])
    with pytest.raises(AutomixerError, match="changed since the inventory"):
        write_leakage(tmp_path / "inventory", tmp_path / "snapshot", items_frame(), tmp_path / "out")


def test_without_an_item_that_can_be_checked_nothing_is_flagged(tmp_path: Path) -> None:
    assert leaks_of(tmp_path, [LONG], items_frame(ITEMS[-1:]))["n_ngrams"].to_list() == [0]
