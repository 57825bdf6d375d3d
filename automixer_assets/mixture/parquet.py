"""Write Parquet so that a reader sees the whole file or none, and the same rows give the same bytes.

Also compares columns of row-aligned files without decoding them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.files import atomic_path
from automixer_assets.lake_path import opened

ROWS_PER_GROUP = 2**17
COMPARED_BYTES = 2**18


def write_table(table: pa.Table, out: Path) -> None:
    """Write under a temporary name, flush to disk, rename."""
    with table_writer(out, table.schema) as write:
        write(table)


def write_batches(reader: pa.RecordBatchReader, out: Path) -> None:
    """The same for a result that does not fit in memory."""
    with table_writer(out, reader.schema) as write:
        for batch in reader:
            write(pa.Table.from_batches([batch]))


@contextmanager
def table_writer(out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """The same piece by piece: what is yielded writes the next rows of the file."""
    with atomic_path(out) as temporary, pq.ParquetWriter(temporary, schema, **_encoding(schema)) as writer:
        yield lambda rows: writer.write_table(rows, row_group_size=ROWS_PER_GROUP)


def count_rows(paths: Iterable[Path]) -> int:
    """Rows of files, by their footers."""
    total = 0
    for path in paths:
        with opened(path) as file:
            total += pq.read_metadata(file).num_rows
    return total


def read_columns(path: Path | BinaryIO, columns: Sequence[str]) -> pa.Table:
    """Columns of one file in the order asked for; unlike a data set's, its folders' names mean nothing.

    In pieces, because memory for one long string column is asked of the system and cleared anew for every shard.
    """
    file = pq.ParquetFile(path)
    schema = pa.schema([file.schema_arrow.field(name) for name in columns], file.schema_arrow.metadata)
    pieces = file.iter_batches(ROWS_PER_GROUP, columns=list(columns), use_threads=False)
    return pa.Table.from_batches([piece.select(list(columns)) for piece in pieces], schema)


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """Ids and scores hardly repeat, so dictionaries would only cost time; each type has a code of its own.

    Ids share their beginning. Of a double split into streams, zstd would save a tenth more than lz4 for twice the time.
    """
    encodings: dict[str, str] = {}
    compressions: dict[str, str] = {}
    for field in schema:
        compressions[f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name] = "zstd"
        if pa.types.is_float32(field.type) or pa.types.is_float64(field.type):
            encodings[field.name], compressions[field.name] = "BYTE_STREAM_SPLIT", "lz4"
        elif pa.types.is_int64(field.type):
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(field.type):
            encodings[field.name] = "DELTA_BYTE_ARRAY"
    return {"compression": compressions, "use_dictionary": False, "column_encoding": encodings or None}


def have_equal_bytes(first: Path, second: Path, columns: Sequence[str]) -> bool:
    """Whether two files store these columns in the same bytes, which then hold the same values.

    False does not mean that the values differ: the files may have other row groups, encodings or compressions.
    """
    left, right = pq.read_metadata(first), pq.read_metadata(second)
    if left.num_rows != right.num_rows or left.num_row_groups != right.num_row_groups:
        return False
    with first.open("rb") as left_file, second.open("rb") as right_file:
        return all(
            _equal_chunks(left_file, _chunk(left, group, name), right_file, _chunk(right, group, name))
            for group in range(left.num_row_groups)
            for name in columns
        )


def _chunk(metadata: pq.FileMetaData, group: int, name: str) -> tuple[pq.ColumnChunkMetaData, object]:
    """A column chunk and what else its bytes mean: type and nullability."""
    index = next(i for i in range(metadata.num_columns) if metadata.schema.column(i).path == name)
    column = metadata.schema.column(index)
    meaning = (column.physical_type, str(column.logical_type), column.max_definition_level, column.max_repetition_level)
    return metadata.row_group(group).column(index), meaning


def _equal_chunks(
    left_file: BufferedReader,
    left: tuple[pq.ColumnChunkMetaData, object],
    right_file: BufferedReader,
    right: tuple[pq.ColumnChunkMetaData, object],
) -> bool:
    chunks = (left[0], right[0])
    described = [(chunk.compression, chunk.num_values, chunk.total_compressed_size) for chunk in chunks]
    if left[1] != right[1] or described[0] != described[1]:
        return False
    return _equal_ranges(left_file, _start(left[0]), right_file, _start(right[0]), left[0].total_compressed_size)


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    return chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset


def _equal_ranges(left: BufferedReader, left_start: int, right: BufferedReader, right_start: int, size: int) -> bool:
    """Compare `size` bytes in blocks that stay in the processor's cache."""
    left.seek(left_start)
    right.seek(right_start)
    while size > 0:
        expected = min(size, COMPARED_BYTES)
        part = left.read(expected)
        if len(part) != expected or part != right.read(expected):
            return False
        size -= expected
    return True
