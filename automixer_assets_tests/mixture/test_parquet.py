from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automixer_assets.mixture.parquet import have_equal_bytes, read_columns, write_batches, write_table

IDS = [f"d{number % 700}" for number in range(1000)]


def write(path: Path, ids: list[str | None], **options: Any) -> Path:
    table = pa.table({"doc_id": pa.array(ids, pa.string()), "n_tokens": range(len(ids)), "score": [0.5] * len(ids)})
    pq.write_table(table, path, **options)
    return path


def test_columns_of_equal_bytes_are_found_beside_other_columns(tmp_path):
    first = write(tmp_path / "a.parquet", list(IDS), row_group_size=300)
    table = pq.read_table(first).select(["n_tokens", "doc_id"]).append_column("other", pa.array([1.0] * 1000))
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=300)
    assert have_equal_bytes(first, tmp_path / "b.parquet", ["doc_id", "n_tokens"])


@pytest.mark.parametrize(
    ("ids", "options"),
    [
        ([*IDS[:-1], "other"], {}),
        ([*IDS[:400], IDS[401], IDS[400], *IDS[402:]], {}),
        ([*IDS[:-1], None], {}),
        (IDS[:-1], {}),
        (IDS, {"row_group_size": 500}),
        (IDS, {"compression": "zstd"}),
        (IDS, {"use_dictionary": False}),
    ],
)
def test_other_values_or_another_encoding_are_other_bytes(tmp_path, ids, options):
    first, second = write(tmp_path / "a.parquet", list(IDS)), write(tmp_path / "b.parquet", ids, **options)
    assert not have_equal_bytes(first, second, ["doc_id"])


def test_the_same_bytes_of_another_type_are_not_taken_for_equal(tmp_path):
    values = pa.array([1, 2, 3], pa.int64())
    pq.write_table(pa.table({"doc_id": values}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"doc_id": values.cast(pa.timestamp("us"))}), tmp_path / "b.parquet")
    assert not have_equal_bytes(tmp_path / "a.parquet", tmp_path / "b.parquet", ["doc_id"])


def test_batches_and_tables_are_read_back_as_they_were(tmp_path):
    columns = {"name": ["a", None, "b"], "value": [0.1, -0.0, None], "count": [1, 2, 3], "tasks": [["x"], [], None]}
    table = pa.table(columns)
    write_table(table, tmp_path / "t.parquet")
    write_batches(table.to_reader(2), tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "t.parquet").equals(table)
    assert pq.read_table(tmp_path / "b.parquet").equals(table)


def test_columns_are_read_in_the_order_asked_for_and_a_folders_name_is_none_of_them(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", None], "c": [0.5, -0.0]}).replace_schema_metadata({"made": "here"})
    write_table(table, tmp_path / "a=7" / "t.parquet")
    found = read_columns(tmp_path / "a=7" / "t.parquet", ["c", "a"])
    assert found.equals(table.select(["c", "a"]))
    assert found.schema.metadata == {b"made": b"here"}
    write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert read_columns(tmp_path / "empty.parquet", ["b"]).equals(table.select(["b"]).slice(0, 0))
