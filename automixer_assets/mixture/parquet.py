"""Write Parquet so that a reader sees the whole file or none, and the same rows give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 2**17


def write_table(table: pa.Table, out: Path) -> None:
    """Write under a temporary name, flush to disk, rename."""
    with _replacing(out) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)


def write_batches(reader: pa.RecordBatchReader, out: Path) -> None:
    """The same for a result that does not fit in memory."""
    with _replacing(out) as temporary, pq.ParquetWriter(temporary, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
