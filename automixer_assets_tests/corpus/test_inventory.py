"""Claims about which rows become documents, which are set aside and why, and which files are refused."""

from __future__ import annotations

import datetime
import decimal
import os
import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus import inventory
from automixer_assets.corpus.inventory import CARRIED_COLUMNS, DOCUMENT_SCHEMA, take_inventory
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import file_sha256
from automixer_assets_tests.corpus.builders import Row, documents_of, folder, inventory_of, texts, write_source

ids = st.sampled_from([None, "", "a", "b", "c", "d", "e"])
bodies = st.sampled_from([None, "", " \n\t", "\u3000", "hello", "hello", "Köln 東京", "x\x00y"])
snapshots = st.lists(st.lists(st.tuples(ids, bodies), max_size=7), min_size=1, max_size=3)


@given(files=snapshots, documents_per_shard=st.integers(1, 4), batch_rows=st.integers(1, 4))
@settings(max_examples=35, deadline=None)
def test_it_keeps_and_rejects_what_a_slow_loop_does(
    files: list[list[Row]], documents_per_shard: int, batch_rows: int
) -> None:
    kept, rejected = sifted_slowly(files)
    with folder() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "BATCH_ROWS", batch_rows)
        for index, rows in enumerate(files):
            write_source(root / "S" / f"part-{index}.parquet", rows, row_group_size=3)
        if not kept:
            with pytest.raises(AutomixerError, match=r"no usable document: all of its \d+ rows lack an id or a text"):
                inventory_of(root / "S", root / "out")
            return
        out = inventory_of(root / "S", root / "out", documents_per_shard)
        documents = documents_of(out)
        assert documents.select("doc_id", "file", "row", "content_hash", "n_characters").rows() == kept
        assert pl.read_parquet(out / "quarantine.parquet").rows() == rejected
        sizes = [pq.read_metadata(path).num_rows for path in sorted((out / "documents").iterdir())]
        per_file = [sum(row[1] == f"part-{index}.parquet" for row in kept) for index in range(len(files))]
        assert sizes == [size for count in per_file for size in chunks(count, documents_per_shard)]
        assert pl.read_parquet(out / "files.parquet").rows() == [
            (path.name, file_sha256(path), path.stat().st_size, len(rows), count)
            for path, rows, count in zip(sorted((root / "S").iterdir()), files, per_file, strict=True)
        ]


def sifted_slowly(files: list[list[Row]]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Rows of the document and quarantine tables, by the rules as docs/tables.md states them."""
    kept: list[tuple[object, ...]] = []
    rejected: list[tuple[object, ...]] = []
    for index, rows in enumerate(files):
        for row, (doc_id, text) in enumerate(rows):
            place = (f"part-{index}.parquet", row)
            if not doc_id:
                rejected.append((*place, doc_id, "missing_id"))
            elif text is None:
                rejected.append((*place, doc_id, "null_text"))
            elif text == "":
                rejected.append((*place, doc_id, "empty_text"))
            elif not text.strip():
                rejected.append((*place, doc_id, "whitespace_text"))
            elif any(doc_id == other[0] for other in kept):
                rejected.append((*place, doc_id, "duplicate_id"))
            else:
                kept.append((doc_id, *place, xxhash.xxh3_128_hexdigest(text.encode()), len(text)))
    return kept, rejected


def chunks(count: int, size: int) -> list[int]:
    return [min(size, count - start) for start in range(0, count, size)]


def test_columns_are_those_of_the_contract_and_absent_ones_are_null(tmp_path: Path) -> None:
    write_source(tmp_path / "S" / "a.parquet", texts(2), {"extra": pa.array([1, 2])})
    path = inventory_of(tmp_path / "S", tmp_path / "out") / "documents" / "shard-00000.parquet"
    assert pq.read_schema(path).equals(DOCUMENT_SCHEMA)
    assert pl.read_parquet(path).select(list(CARRIED_COLUMNS)).null_count().row(0) == (2,) * len(CARRIED_COLUMNS)


def test_carried_columns_take_the_tables_types_whatever_the_sources_are(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    columns: dict[str, pa.Array] = {
        "url": pa.array(["u0", None], pa.large_string()),
        "date": pa.array([when, None], pa.timestamp("us")),
        "language": pa.array(["en", "de"]).dictionary_encode(),
        "token_count": pa.array([7, 8], pa.int16()),
        "int_score": pa.array([3.0, None], pa.float32()),
        "score": pa.array([2, 3], pa.int8()),
        "language_score": pa.array([decimal.Decimal("0.25"), None], pa.decimal128(4, 2)),
        "licence": pa.nulls(2),
    }
    write_source(tmp_path / "S" / "a.parquet", texts(2), columns)
    carried = documents_of(inventory_of(tmp_path / "S", tmp_path / "out"))
    assert carried.select("url", "date", "language", "token_count").rows() == [
        ("u0", "2026-01-02 03:04:05", "en", 7),
        (None, None, "de", 8),
    ]
    assert carried.select("int_score", "score", "language_score", "licence").rows() == [
        (3, 2.0, 0.25, None),
        (None, 3.0, None, None),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"score": pa.array(["high", "low"])}, "column 'score' is string, not a number: convert or drop it"),
        ({"score": pa.array(["3.1", "2.9"])}, "column 'score' is string, not a number"),
        ({"token_count": pa.array([True, False])}, "column 'token_count' is bool, not a number"),
        ({"int_score": pa.array([3.5, 1.0])}, "column 'int_score' does not fit int64"),
        ({"token_count": pa.array([2**63, 1], pa.uint64())}, "column 'token_count' does not fit int64"),
        ({"text": pa.array([b"bytes", b"more"])}, "column 'text' is binary, not text"),
        ({"text": pa.array([["a"], ["b"]])}, r"column 'text' is list.*, not text"),
        ({"id": pa.array([1, 2])}, "column 'id' is int64, not text"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_column_of_another_kind_is_refused_with_file_and_column(
    tmp_path: Path, columns: dict[str, pa.Array], message: str
) -> None:
    write_source(tmp_path / "S" / "a.parquet", texts(2))
    write_source(tmp_path / "S" / "b.parquet", texts(2), columns)
    with pytest.raises(AutomixerError, match=rf"S/b\.parquet: {message}"):
        inventory_of(tmp_path / "S", tmp_path / "out")


@pytest.mark.parametrize("column", ["text", "id"])
def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, column: str) -> None:
    path = write_source(tmp_path / "S" / "a.parquet", texts(2))
    pq.write_table(pq.read_table(path).rename_columns({column: "body"}), path)
    with pytest.raises(AutomixerError, match=rf"S/a\.parquet has no column '{column}' \(it has: .*body"):
        inventory_of(tmp_path / "S", tmp_path / "out")


def cut_the_footer(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_the_middle(content: bytes) -> bytes:
    return content[: len(content) // 2] + content[-8:]


def blank_pages_of(column: int) -> Callable[[bytes], bytes]:
    def blank(content: bytes) -> bytes:
        chunk = pq.read_metadata(pa.BufferReader(content)).row_group(1).column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        return content[:start] + bytes(chunk.total_compressed_size) + content[start + chunk.total_compressed_size :]

    return blank


@pytest.mark.parametrize(
    "damage",
    [cut_the_footer, cut_the_middle, blank_pages_of(0), blank_pages_of(1), lambda content: b"", lambda content: b"csv"],
    ids=["footer cut", "middle cut", "ids blank", "texts blank", "no bytes", "no Parquet"],
)
def test_a_damaged_file_is_named_among_good_ones(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    for name in ("a", "b", "c"):
        rows = [(f"{name}{doc_id}", text) for doc_id, text in texts(60)]
        write_source(tmp_path / "S" / f"{name}.parquet", rows, row_group_size=20)
    path = tmp_path / "S" / "b.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        AutomixerError, match=r"S/b\.parquet is not a readable Parquet file \(.+\): it may be truncated"
    ):
        inventory_of(tmp_path / "S", tmp_path / "out")


@pytest.mark.parametrize("column", ["text", "id"])
def test_a_value_that_is_not_utf8_is_refused_with_its_file(tmp_path: Path, column: str) -> None:
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    write_source(tmp_path / "S" / "a.parquet", texts(1), {column: broken})
    with pytest.raises(AutomixerError, match=r"S/a\.parquet is not a readable Parquet file \(.*UTF-?8"):
        inventory_of(tmp_path / "S", tmp_path / "out")


def test_a_folder_without_parquet_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"nowhere does not exist: create it or correct corpus\.directory"):
        inventory_of(tmp_path / "nowhere", tmp_path / "out-1")
    empty = tmp_path / "S"
    empty.mkdir()
    with pytest.raises(AutomixerError, match=r"S holds no \*\.parquet file: put its files there, or withdraw it"):
        inventory_of(empty, tmp_path / "out-2")
    (empty / "_SUCCESS").touch()
    write_source(empty / "_temporary" / "0" / "part-0.parquet", texts(1))
    write_source(empty / ".part-1.parquet", texts(1))
    (empty / "looks-like.parquet").mkdir()
    with pytest.raises(AutomixerError, match=r"S holds no \*\.parquet file"):
        inventory_of(empty, tmp_path / "out-3")


def test_files_in_folders_are_named_below_the_snapshot_and_their_folders_are_no_columns(tmp_path: Path) -> None:
    write_source(tmp_path / "S" / "id=7" / "a[1].parquet", [("a", "one"), ("b", "two")])
    write_source(tmp_path / "S" / "id=8" / "b.parquet", [("b", "again"), ("c", "three")])
    out = inventory_of(tmp_path / "S", tmp_path / "out")
    assert documents_of(out).select("doc_id", "file").rows() == [
        ("a", "id=7/a[1].parquet"),
        ("b", "id=7/a[1].parquet"),
        ("c", "id=8/b.parquet"),
    ]
    assert pl.read_parquet(out / "quarantine.parquet")["reason"].to_list() == ["duplicate_id"]


def append_a_row(path: Path) -> None:
    write_source(path, texts(21))


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


@pytest.mark.parametrize("change", [append_a_row, touch, Path.unlink], ids=["grown", "touched", "deleted"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write_source(tmp_path / "S" / "a.parquet", texts(20))
    (tmp_path / "out").mkdir()
    with pytest.raises(AutomixerError, match=r"S/a\.parquet changed while it was read: wait until .* is complete"):
        take_inventory(tmp_path / "S", tmp_path / "out", documents_per_shard=9, on_progress=lambda rows: change(path))


def test_no_file_is_read_whole(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [(f"d{i}", rng.randbytes(2000).hex()) for i in range(4000)]
    path = write_source(tmp_path / "S" / "a.parquet", rows, row_group_size=200)
    before, allocated, batches = pa.total_allocated_bytes(), [0], []

    def watch(n_rows: int) -> None:
        batches.append(n_rows)
        allocated.append(pa.total_allocated_bytes() - before)

    (tmp_path / "out").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory, "BATCH_ROWS", 150)
        take_inventory(tmp_path / "S", tmp_path / "out", documents_per_shard=1000, on_progress=watch)
    assert sum(batches) == 4000
    assert max(batches) <= 150
    assert max(allocated) < path.stat().st_size / 4
