"""Inventory of a crawl snapshot: which documents it holds, which rows are rejected and why.

Reads FineWeb-style Parquet files batch by batch; memory is bounded by one shard of document metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from automixer_assets.corpus.shards import shard_name
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import file_sha256
from automixer_assets.mixture.sql import run_sql

INVENTORY_VERSION = "1"
BATCH_ROWS = 4096

CARRIED_COLUMNS: dict[str, pa.DataType] = {
    "url": pa.string(),
    "dump": pa.string(),
    "date": pa.string(),
    "file_path": pa.string(),
    "language": pa.string(),
    "language_score": pa.float64(),
    "token_count": pa.int64(),
    "score": pa.float64(),
    "int_score": pa.int64(),
    "licence": pa.string(),
}
"""Source columns that travel with every document; absent ones are null."""
NUMBER_COLUMNS = {name: type_ for name, type_ in CARRIED_COLUMNS.items() if not pa.types.is_string(type_)}

DOCUMENT_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("content_hash", pa.string()),
        ("n_characters", pa.int64()),
        *CARRIED_COLUMNS.items(),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [("file", pa.string()), ("row", pa.int64()), ("doc_id", pa.string()), ("reason", pa.string())]
)
FILES_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("n_rows", pa.int64()),
        ("n_documents", pa.int64()),
    ]
)


@dataclass(frozen=True)
class SourceFile:
    """One Parquet file of a snapshot; size and mtime tell whether it changed while it was read."""

    name: str
    path: Path
    size: int
    mtime_ns: int


@dataclass
class ShardWriter:
    """Collects kept documents and writes a shard whenever one is full; shards never span source files."""

    folder: Path
    documents_per_shard: int
    n_shards: int = 0
    pending: list[dict[str, object]] = field(default_factory=list)

    def add(self, documents: list[dict[str, object]]) -> None:
        self.pending.extend(documents)
        while len(self.pending) >= self.documents_per_shard:
            self._write(self.pending[: self.documents_per_shard])
            self.pending = self.pending[self.documents_per_shard :]

    def end_file(self) -> None:
        if self.pending:
            self._write(self.pending)
            self.pending = []

    def _write(self, documents: list[dict[str, object]]) -> None:
        table = pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA)
        pq.write_table(table, self.folder / f"{shard_name(self.n_shards)}.parquet")
        self.n_shards += 1


def source_files(snapshot_folder: Path) -> list[SourceFile]:
    """The Parquet files of a snapshot in name order.

    Raises:
        AutomixerError: the folder does not exist or holds no Parquet file.
    """
    if not snapshot_folder.is_dir():
        raise AutomixerError(
            f"snapshot folder {snapshot_folder} does not exist: create it or correct corpus.directory, "
            "or withdraw it (`automixer snapshot remove`)"
        )
    paths = sorted(path for path in snapshot_folder.rglob("*.parquet") if path.is_file())
    paths = [path for path in paths if not is_hidden(path.relative_to(snapshot_folder))]
    if not paths:
        raise AutomixerError(
            f"snapshot {snapshot_folder} holds no *.parquet file: put its files there, "
            "or withdraw it (`automixer snapshot remove`)"
        )
    return [_source_file(snapshot_folder, path) for path in paths]


def take_inventory(
    snapshot_folder: Path, out: Path, *, documents_per_shard: int, on_progress: Callable[[int], None] | None = None
) -> None:
    """Write `files.parquet`, `documents/shard-*.parquet` and `quarantine.parquet` (see docs/tables.md) into `out`.

    `on_progress(rows)` is called with the rows read since the last call.

    Raises:
        AutomixerError: an empty snapshot, an unreadable file, a `text` or `id` column that is missing or no text, a
            carried column of another kind, no usable document, or a file that changed while it was read.
    """
    files = source_files(snapshot_folder)
    duplicates = duplicate_ids(files)
    (out / "documents").mkdir()
    shards, seen = ShardWriter(out / "documents", documents_per_shard), set[str]()
    with pq.ParquetWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine:
        rows = [take_file(file, duplicates, seen, shards, quarantine, on_progress) for file in files]
    write_files(rows, snapshot_folder, out)


def take_file(
    file: SourceFile,
    duplicates: set[str],
    seen: set[str],
    shards: ShardWriter,
    quarantine: pq.ParquetWriter,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, object]:
    """Take one source file in; returns its row of `files.parquet`.

    Args:
        duplicates: ids that the snapshot holds more than once.
        seen: those of them that earlier rows had; this file's are added.
    """
    n_rows = n_documents = 0
    for batch in source_batches(file):
        kept, rejected = _sift(file.name, n_rows, batch, duplicates, seen)
        shards.add(kept)
        quarantine.write_table(pa.Table.from_pylist(rejected, schema=QUARANTINE_SCHEMA))
        n_rows, n_documents = n_rows + batch.num_rows, n_documents + len(kept)
        if on_progress is not None:
            on_progress(batch.num_rows)
    shards.end_file()
    return _file_row(file, n_rows, n_documents)


def write_files(rows: list[dict[str, object]], snapshot_folder: Path, out: Path) -> None:
    """Write `files.parquet`; AutomixerError when none of the files has a document."""
    table = pa.Table.from_pylist(rows, schema=FILES_SCHEMA)
    if not any(table["n_documents"].to_pylist()):
        raise AutomixerError(
            f"snapshot {snapshot_folder} has no usable document: all of its "
            f"{sum(table['n_rows'].to_pylist())} rows lack an id or a text; check the export that wrote it"
        )
    pq.write_table(table, out / "files.parquet")


def read_texts(snapshot_folder: Path, documents: pl.DataFrame) -> Iterator[str]:
    """Texts of the given inventory rows (one shard, source order), streamed from their source file."""
    if documents.is_empty():
        return
    (name,) = documents["file"].unique().to_list()
    wanted = iter(documents["row"].to_list())
    target = next(wanted, None)
    first_row = 0
    for batch in _parquet_file(snapshot_folder / name).iter_batches(BATCH_ROWS, columns=["text"]):
        texts = batch.column(0)
        while target is not None and target < first_row + batch.num_rows:
            yield texts[target - first_row].as_py()
            target = next(wanted, None)
        if target is None:
            return
        first_row += batch.num_rows


def text_batches(snapshot_folder: Path, documents: pl.DataFrame, characters: int = 2**22) -> Iterator[pl.Series]:
    """The same texts in series of about that many characters, which bounds memory."""
    texts, total = [], 0
    for text in read_texts(snapshot_folder, documents):
        texts.append(text)
        total += len(text)
        if total >= characters:
            yield pl.Series(texts, dtype=pl.String)
            texts, total = [], 0
    if texts:
        yield pl.Series(texts, dtype=pl.String)


def verify_sources(snapshot_folder: Path, files: pl.DataFrame) -> None:
    """Raise AutomixerError naming a source file that is gone or no longer has the inventoried bytes."""
    for name, sha256 in files.select("file", "sha256").iter_rows():
        path = snapshot_folder / name
        if not path.exists():
            raise AutomixerError(
                f"{path} is gone since the inventory: restore it, or materialise snapshot_inventory again"
            )
        if file_sha256(path) != sha256:
            raise AutomixerError(f"{path} changed since the inventory: materialise snapshot_inventory again")


def _source_file(snapshot_folder: Path, path: Path) -> SourceFile:
    status = path.stat()
    return SourceFile(path.relative_to(snapshot_folder).as_posix(), path, status.st_size, status.st_mtime_ns)


def _parquet_file(path: Path) -> pq.ParquetFile:
    """Without pre-buffering, which holds the chosen columns of the whole file in memory until the last batch."""
    return pq.ParquetFile(path, pre_buffer=False)


def _open(file: SourceFile) -> pq.ParquetFile:
    """The file, its columns checked: `text` and `id` are texts, carried numbers are numbers."""
    try:
        parquet = _parquet_file(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None
    columns = {field.name: field.type for field in parquet.schema_arrow}
    for name in ("text", "id"):
        if name not in columns:
            raise AutomixerError(
                f"{file.path} has no column {name!r} (it has: {', '.join(columns)}): "
                "rename the column that holds it or export the file again"
            )
        if not _is_text(columns[name]):
            raise _wrong_type(file, name, columns[name], "text")
    for name in NUMBER_COLUMNS.keys() & columns.keys():
        if not _is_number(columns[name]):
            raise _wrong_type(file, name, columns[name], "a number")
    return parquet


def is_hidden(path: Path) -> bool:
    """Spark and others keep unfinished files below names such as `_temporary`."""
    return any(part.startswith((".", "_")) for part in path.parts)


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _is_number(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)
    return any(is_kind(type_) for is_kind in kinds)


def _wrong_type(file: SourceFile, column: str, type_: pa.DataType, expected: str) -> AutomixerError:
    return AutomixerError(
        f"{file.path}: column {column!r} is {type_}, not {expected}: convert or drop it and write the file again"
    )


def source_batches(file: SourceFile) -> Iterator[pa.RecordBatch]:
    parquet = _open(file)
    columns = ["text", "id", *(name for name in (*CARRIED_COLUMNS, "license") if name in parquet.schema_arrow.names)]
    try:
        for batch in parquet.iter_batches(BATCH_ROWS, columns=columns):
            batch.validate(full=True)  # a text that is not UTF-8 is said here, not by whoever decodes it
            yield _with_numbers(file, batch)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from None


def _with_numbers(file: SourceFile, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Carried numbers in the table's types: other widths, decimals and whole floats are converted, never rounded."""
    for index, name in enumerate(batch.schema.names):
        if name in NUMBER_COLUMNS:
            try:
                numbers = batch.column(index).cast(NUMBER_COLUMNS[name])
            except pa.ArrowInvalid as error:
                raise AutomixerError(
                    f"{file.path}: column {name!r} does not fit {NUMBER_COLUMNS[name]} ({_first_line(error)}): "
                    "convert or drop it and write the file again"
                ) from None
            batch = batch.set_column(index, name, numbers)
    return batch


def _unreadable(file: SourceFile, error: Exception) -> AutomixerError:
    return AutomixerError(
        f"{file.path} is not a readable Parquet file ({_first_line(error)}): "
        "it may be truncated or damaged; fetch or export it again"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".: ")


def duplicate_ids(files: list[SourceFile]) -> set[str]:
    """Ids that occur more than once. DuckDB aggregates them and spills, so memory is not bounded by the corpus."""
    for file in files:
        _open(file)
    try:
        return _repeated_ids(files)
    except duckdb.Error:
        for file in files:
            try:
                _repeated_ids([file])
            except duckdb.Error as error:
                raise _unreadable(file, error) from None
        raise


def _repeated_ids(files: list[SourceFile]) -> set[str]:
    return set(run_sql("repeated_ids", {"files": [str(file.path) for file in files]})["id"].to_pylist())


def _sift(
    file: str, first_row: int, batch: pa.RecordBatch, duplicates: set[str], seen: set[str]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Split a batch into documents to keep and rows to quarantine; `seen` holds the repeated ids met so far."""
    kept: list[dict[str, object]] = []
    rejected: list[dict[str, object]] = []
    for index, source in enumerate(batch.to_pylist()):
        row = first_row + index
        reason = reason_to_reject(source, duplicates, seen)
        if reason is None:
            kept.append(_document(file, row, source))
        else:
            rejected.append({"file": file, "row": row, "doc_id": source["id"], "reason": reason})
    return kept, rejected


def reason_to_reject(source: dict[str, object], duplicates: set[str], seen: set[str]) -> str | None:
    text, doc_id = source["text"], source["id"]
    if not doc_id:
        return "missing_id"
    if text is None:
        return "null_text"
    if text == "":
        return "empty_text"
    if str(text).isspace():
        return "whitespace_text"
    if doc_id in duplicates:
        if doc_id in seen:
            return "duplicate_id"
        seen.add(str(doc_id))
    return None


def _document(file: str, row: int, source: dict[str, object]) -> dict[str, object]:
    text = str(source["text"])
    return {
        "doc_id": source["id"],
        "file": file,
        "row": row,
        "content_hash": xxhash.xxh3_128_hexdigest(text.encode()),
        "n_characters": len(text),
        **{name: _carried(source.get(name), name) for name in CARRIED_COLUMNS},
        "licence": _carried(source.get("licence", source.get("license")), "licence"),
    }


def _carried(value: object, name: str) -> object:
    """Dates may come as timestamps; the table keeps one type per column."""
    return value if value is None or name in NUMBER_COLUMNS else str(value)


def _file_row(file: SourceFile, n_rows: int, n_documents: int) -> dict[str, object]:
    """The file's row of `files.parquet`; AutomixerError when it changed while it was read."""
    try:
        sha256, status = file_sha256(file.path), file.path.stat()
        unchanged = (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)
    except FileNotFoundError:
        sha256, unchanged = "", False
    if not unchanged:
        raise AutomixerError(
            f"{file.path} changed while it was read: wait until the snapshot is complete, then run again"
        )
    return {"file": file.name, "sha256": sha256, "bytes": file.size, "n_rows": n_rows, "n_documents": n_documents}
