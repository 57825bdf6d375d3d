"""Write Parquet so that a reader sees the whole file or none, and the same rows give the same bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.files import atomic_path

ROWS_PER_GROUP = 2**17


def write_table(table: pa.Table, out: Path) -> None:
    """Write under a temporary name, flush to disk, rename."""
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)


def write_batches(reader: pa.RecordBatchReader, out: Path) -> None:
    """The same for a result that does not fit in memory."""
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)
