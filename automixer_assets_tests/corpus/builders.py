"""Tiny real inputs: source files of a snapshot, and folders for hypothesis examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.inventory import take_inventory

Row = tuple[str | None, str | None]
"""(id, text) of a source row."""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder per hypothesis example (pytest's tmp_path is shared between examples)."""
    with TemporaryDirectory() as name:
        yield Path(name)


def write_source(
    path: Path, rows: Sequence[Row], columns: Mapping[str, pa.Array] | None = None, row_group_size: int | None = None
) -> Path:
    """A Parquet file in FineWeb's manner; `columns` are added to `id` and `text`, or replace them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {
        "id": pa.array([doc_id for doc_id, _ in rows], pa.string()),
        "text": pa.array([text for _, text in rows], pa.string()),
        **(columns or {}),
    }
    pq.write_table(pa.table(table), path, row_group_size=row_group_size)
    return path


def inventory_of(snapshot: Path, out: Path, documents_per_shard: int = 1000) -> Path:
    """`take_inventory` into a new folder."""
    out.mkdir(parents=True)
    take_inventory(snapshot, out, documents_per_shard=documents_per_shard)
    return out


def documents_of(inventory: Path) -> pl.DataFrame:
    """All kept documents, shards in order."""
    return pl.read_parquet(inventory / "documents" / "*.parquet")


def texts(count: int) -> list[Row]:
    """Distinct ids and texts of different lengths, some beyond ASCII."""
    return [(f"d{i:03d}", f"Die Brücke number {i} crosses the river 東京 {'again ' * (i % 7)}") for i in range(count)]
