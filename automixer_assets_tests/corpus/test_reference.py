"""Claims about the reference sample: it depends on the documents and the seed, not on how they are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus.reference import read_reference_sample, write_reference_sample
from automixer_assets.corpus.shards import TokenizedSnapshot, shard_name
from automixer_assets.errors import AutomixerError
from automixer_assets_tests.corpus.builders import folder
from automixer_assets_tests.mixture.builders import write_tokenized


def write(root: Path, snapshot: str, doc_ids: Sequence[str], size: int) -> TokenizedSnapshot:
    """A tokenised snapshot with `size` documents a shard; the ids say which document they are of."""
    shards = {
        shard_name(start // size): [(name, "h", tokens_of(name)) for name in doc_ids[start : start + size]]
        for start in range(0, len(doc_ids), size)
    }
    return write_tokenized(root, snapshot, shards)


def tokens_of(doc_id: str) -> list[int]:
    return [*doc_id.encode(), 0]


def sampled(root: Path, snapshots: Sequence[TokenizedSnapshot], documents: int, seed: int) -> pl.DataFrame:
    write_reference_sample(snapshots, documents=documents, seed=seed, out=root)
    table = pl.read_parquet(root / "reference.parquet")
    assert read_reference_sample(root) == table["token_ids"].to_list()
    return table


@given(data=st.data(), count=st.integers(1, 12), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_it_is_the_documents_with_the_lowest_keys_however_they_lie(data: st.DataObject, count: int, seed: int) -> None:
    names = {"A": [f"a{i}" for i in range(count)], "B": ["a0", *(f"b{i}" for i in range(count))]}
    documents = data.draw(st.integers(1, 2 * count + 1))
    every = [
        (xxhash.xxh3_64_intdigest(name.encode(), seed=seed), name, place) for place in "AB" for name in names[place]
    ]
    expected = [(place, name) for _, name, place in sorted(every)[:documents]]
    for _ in range(2):
        order = {place: data.draw(st.permutations(names[place])) for place in "AB"}
        with folder() as root:
            snapshots = [write(root, place, order[place], data.draw(st.integers(1, 5))) for place in "AB"]
            table = sampled(root, data.draw(st.permutations(snapshots)), documents, seed)
            assert table.select("snapshot", "doc_id").rows() == expected
            assert table["token_ids"].to_list() == [tokens_of(name) for _, name in expected]
            assert_rows_point_to_the_documents(table, snapshots)


def assert_rows_point_to_the_documents(table: pl.DataFrame, snapshots: Sequence[TokenizedSnapshot]) -> None:
    shards = {(snapshot.snapshot, shard.name): shard for snapshot in snapshots for shard in snapshot.shards}
    for place, shard, row, doc_id in table.select("snapshot", "shard", "row", "doc_id").iter_rows():
        assert shards[place, shard].documents["doc_id"][row] == doc_id


def test_a_smaller_sample_begins_a_larger_one_and_a_seed_changes_it(tmp_path: Path) -> None:
    snapshot = write(tmp_path, "A", [f"d{i}" for i in range(50)], 7)
    small, large, other = (
        sampled(tmp_path, [snapshot], n, seed)["doc_id"].to_list() for n, seed in ((5, 0), (20, 0), (5, 1))
    )
    assert large[:5] == small
    assert other != small


def test_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    table = sampled(tmp_path, [write(tmp_path, "A", ["x"], 1)], 1, 0)
    assert dict(table.schema) == {
        "snapshot": pl.String,
        "shard": pl.String,
        "row": pl.Int64,
        "doc_id": pl.String,
        "token_ids": pl.List(pl.Int32),
    }


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    snapshot = write(tmp_path, "A", ["x", "y"], 1)
    with pytest.raises(
        AutomixerError, match=r"needs 3 documents but its snapshots hold 2: lower reference_sample\.documents"
    ):
        sampled(tmp_path, [snapshot], 3, 0)
