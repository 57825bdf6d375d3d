"""Texts of a part, from the snapshot's Parquet files: only the row groups that hold some, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from automixer_assets.errors import AutomixerError

BATCH_ROWS = 1024
CARRIED = ("url", "licence")
TEXT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("url", pa.string()),
        ("licence", pa.string()),
        ("n_tokens", pa.int64()),
    ]
)
"""id: the source's; url and licence: null where the source has none; n_tokens: end-of-document id included."""


def read_documents(snapshot_folder: Path, documents: pl.DataFrame) -> Iterator[pa.RecordBatch]:
    """Batches of TEXT_SCHEMA for rows of a tokenised shard (doc_id, file, row, content_hash, n_tokens), in their order.

    Raises:
        AutomixerError: a source file is gone or unreadable, or a text is not the one that was inventoried.
    """
    for (name,), rows in documents.group_by("file", maintain_order=True):
        path = snapshot_folder / str(name)
        done = 0
        for texts in _texts(path, rows["row"].to_numpy()):
            batch = rows.slice(done, len(texts))
            _require_unchanged(path, batch, texts)
            yield _record_batch(batch, texts)
            done += len(texts)
        if done != rows.height:
            raise _changed(path)


def _texts(path: Path, wanted: np.ndarray) -> Iterator[pa.Array]:
    """The texts in the given rows (ascending) of a file, where they are found."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
        sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        group = np.searchsorted(ends, wanted[wanted < sum(sizes)], side="right")  # of each wanted row
        needed, position = np.unique(group, return_inverse=True)
        before = np.cumsum(np.asarray(sizes)[needed]) - np.asarray(sizes)[needed]  # rows read before a needed group
        targets = wanted[: len(group)] - (ends - sizes)[group] + before[position]
        first = 0
        for batch in file.iter_batches(BATCH_ROWS, row_groups=needed.tolist(), columns=["text"]):
            low, high = np.searchsorted(targets, [first, first + batch.num_rows])
            if high > low:
                yield batch.column(0).take(pa.array(targets[low:high] - first)).cast(pa.string())
            first += batch.num_rows
    except FileNotFoundError:
        raise AutomixerError(
            f"{path} is gone since the inventory: restore it, or set corpus.directory to where it lies now"
        ) from None
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0]
        raise AutomixerError(f"{path} is not a readable Parquet file ({reason}): fetch or export it again") from None


def _require_unchanged(path: Path, documents: pl.DataFrame, texts: pa.Array) -> None:
    expected = documents["content_hash"].to_list()
    found = [None if text is None else xxhash.xxh3_128_hexdigest(text.encode()) for text in texts.to_pylist()]
    if found != expected:
        raise _changed(path)


def _changed(path: Path) -> AutomixerError:
    return AutomixerError(
        f"{path} changed since the inventory: restore it, or materialise snapshot_inventory and the mixture again"
    )


def _record_batch(documents: pl.DataFrame, texts: pa.Array) -> pa.RecordBatch:
    columns = [
        pa.array(documents["doc_id"].to_list(), pa.string()),
        texts,
        *(pa.array(_carried(documents, name), pa.string()) for name in CARRIED),
        pa.array(documents["n_tokens"].to_list(), pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TEXT_SCHEMA)


def _carried(documents: pl.DataFrame, name: str) -> list[str | None]:
    return documents[name].to_list() if name in documents.columns else [None] * documents.height
