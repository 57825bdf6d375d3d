"""An inventory taken a source file at a time, wherever: each file's part apart, then put together to the same bytes.

A shard never spans source files, so parts need nothing of each other, but for ids that occur more than once: the first
row of the snapshot that has one keeps it. Only where there are such ids, a first round writes down which file has
which.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from automixer_assets.corpus.inventory import (
    QUARANTINE_SCHEMA,
    ShardWriter,
    SourceFile,
    duplicate_ids,
    reason_to_reject,
    source_batches,
    source_files,
    take_file,
    write_files,
)
from automixer_assets.corpus.shards import shard_name
from automixer_assets.files import atomic_folder, atomic_path
from automixer_assets.launch.job import RunTasks, make_once, require_folder

DUPLICATES = "duplicates.parquet"
MET = "met.parquet"


@dataclass(frozen=True)
class Part:
    """What one task makes, from one source file; `earlier` are the folders of the files before it."""

    file: SourceFile
    folder: Path
    earlier: tuple[Path, ...] = ()


@dataclass(frozen=True)
class MeetJob:
    """Write down which of the repeated ids a source file has in rows that may keep them."""

    parts: Path

    def open(self) -> Callable[[Part], None]:
        require_folder(self.parts)
        duplicates = _ids(self.parts / DUPLICATES)
        return lambda part: make_once(part.folder / MET, lambda: _write_met(part, duplicates))


@dataclass(frozen=True)
class PartJob:
    """Take single source files in; the folder `taken` of a part stands when it is whole."""

    parts: Path
    documents_per_shard: int

    def open(self) -> Callable[[Part], None]:
        require_folder(self.parts)
        duplicates = _ids(self.parts / DUPLICATES)
        return lambda part: make_once(_taken(part), lambda: self._take(part, duplicates))

    def _take(self, part: Part, duplicates: set[str]) -> None:
        seen = set[str]().union(*(_ids(folder / MET) for folder in part.earlier))
        with atomic_folder(_taken(part)) as taken:
            (taken / "documents").mkdir()
            shards = ShardWriter(taken / "documents", self.documents_per_shard)
            with pq.ParquetWriter(taken / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine:
                row = take_file(part.file, duplicates, seen, shards, quarantine)
            pl.DataFrame([row]).write_parquet(taken / "file.parquet")


def take_inventory_in_parts(
    snapshot_folder: Path,
    out: Path,
    *,
    documents_per_shard: int,
    run: RunTasks,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """What `take_inventory` writes, with the same bytes; `on_progress(rows)` is called after each source file.

    Raises:
        AutomixerError: as `take_inventory`, and what `run` raises.
    """
    folder, report = out / ".parts.tmp", on_progress or (lambda rows: None)
    files = source_files(snapshot_folder)
    duplicates = duplicate_ids(files)  # which names a file that cannot be read
    rows = {file.name: pq.read_metadata(file.path).num_rows for file in files}
    folders = [folder / f"{index:06d}" for index in range(len(files))]
    for each in folders:
        each.mkdir(parents=True)
    pl.DataFrame({"id": sorted(duplicates)}, schema={"id": pl.String}).write_parquet(folder / DUPLICATES)
    parts = {file.name: Part(file, each) for file, each in zip(files, folders, strict=True)}
    if duplicates:
        run(MeetJob(folder), parts, lambda name: None)
        parts = {file.name: Part(file, folders[index], tuple(folders[:index])) for index, file in enumerate(files)}
    run(PartJob(folder, documents_per_shard), parts, lambda name: report(rows[name]))
    _put_together([_taken(part) for part in parts.values()], snapshot_folder, out)
    shutil.rmtree(folder)


def _write_met(part: Part, duplicates: set[str]) -> None:
    met = set[str]()
    for batch in source_batches(part.file):
        for source in batch.select(["text", "id"]).to_pylist():
            if source["id"] in duplicates:
                reason_to_reject(source, duplicates, met)
    with atomic_path(part.folder / MET) as temporary:
        pl.DataFrame({"id": sorted(met)}, schema={"id": pl.String}).write_parquet(temporary)


def _put_together(taken: Sequence[Path], snapshot_folder: Path, out: Path) -> None:
    (out / "documents").mkdir()
    shards = [shard for part in taken for shard in sorted((part / "documents").iterdir())]
    for index, shard in enumerate(shards):
        shard.rename(out / "documents" / f"{shard_name(index)}.parquet")
    with pq.ParquetWriter(out / "quarantine.parquet", QUARANTINE_SCHEMA) as quarantine:
        for part in taken:
            rejected = pq.ParquetFile(part / "quarantine.parquet")
            for group in range(rejected.num_row_groups):
                quarantine.write_table(rejected.read_row_group(group))
    rows: list[dict[str, Any]] = [pl.read_parquet(part / "file.parquet").row(0, named=True) for part in taken]
    write_files(rows, snapshot_folder, out)


def _taken(part: Part) -> Path:
    return part.folder / "taken"


def _ids(path: Path) -> set[str]:
    return set(pl.read_parquet(path)["id"])
