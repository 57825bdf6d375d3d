"""SQL over a lake in an object store: DuckDB reads the byte ranges that it needs, and nothing is copied.

A statement is given `lake:///CACHE/KIND/DIGEST/FILE` for a path into an artefact that is read by files. Names are
translated on their way into a statement and back on their way out, so that callers know only their own paths. A file
that is here already is read here.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from automixer_assets.errors import AutomixerError
from automixer_assets.lake_path import MIRRORS, LakePath, Mirror, placed

SCHEME = "lake://"
FILE_COLUMN = "file"
"""The column under which views and results of statements name a file."""
UNCHANGING = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


class LakeFileSystem(AbstractFileSystem):
    """What DuckDB asks of a file system, for the artefacts that this process reads by files."""

    protocol = "lake"
    cachable = False
    failure: AutomixerError | None = None
    """Why a file could not be read: DuckDB tells it among all the calls that led there."""

    def glob(self, path: str, **options: Any) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        pattern = self._place(path)[2]
        if "*" not in pattern:
            return [path]
        folder = path.removesuffix(pattern)
        artefact = LakePath(folder.removeprefix(SCHEME))
        return [f"{SCHEME}{found}" for found in sorted(map(str, artefact.glob(pattern)))]

    def size(self, path: str) -> int:
        return LakePath(path.removeprefix(SCHEME)).stat().st_size

    def modified(self, path: str) -> datetime.datetime:
        return UNCHANGING  # what is published does not change

    def exists(self, path: str, **options: Any) -> bool:
        return LakePath(path.removeprefix(SCHEME)).is_file()

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return Path(path.removeprefix(SCHEME)).open("rb")
        except FileNotFoundError:
            mirror, uri, name = self._place(path)
        try:
            return mirror.open_ranges(uri, name, self._note)
        except AutomixerError as error:
            self._note(error)
            raise

    def _note(self, error: AutomixerError) -> None:
        self.failure = error

    def _place(self, path: str) -> tuple[Mirror, str, str]:
        place = placed(path.removeprefix(SCHEME))
        if place is None:
            raise FileNotFoundError(path)
        return place


def register(connection: duckdb.DuckDBPyConnection) -> LakeFileSystem | None:
    """Let a connection read by ranges; nothing to do where every file is here."""
    if not MIRRORS:
        return None
    filesystem = LakeFileSystem()
    connection.register_filesystem(filesystem)
    return filesystem


@contextlib.contextmanager
def failures_are_said(filesystem: LakeFileSystem | None) -> Iterator[None]:
    """Raise why a file could not be read in place of what DuckDB makes of it."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        if filesystem is None or filesystem.failure is None:
            raise
        raise filesystem.failure from error


def names_inwards(value: Any) -> Any:
    """A statement's parameter, in which each path into an artefact that is read by files is named `lake://`."""
    if not MIRRORS:
        return value
    if isinstance(value, str):
        return value if placed(value) is None else SCHEME + value
    if isinstance(value, Mapping):
        return {key: names_inwards(each) for key, each in value.items()}
    return [names_inwards(each) for each in value] if isinstance(value, list | tuple) else value


def table_inwards(table: pa.Table) -> pa.Table:
    """A view, its file names translated likewise."""
    return _translated(table, names_inwards) if MIRRORS else table


def table_outwards(table: pa.Table) -> pa.Table:
    """A result with the names that the caller gave."""
    return _translated(table, _outwards) if MIRRORS else table


def _outwards(name: str | None) -> str | None:
    return None if name is None else name.removeprefix(SCHEME)


def _translated(table: pa.Table, translate: Any) -> pa.Table:
    if FILE_COLUMN not in table.column_names:
        return table
    index = table.column_names.index(FILE_COLUMN)
    names = [translate(name) for name in table.column(index).to_pylist()]
    return table.set_column(index, table.schema.field(index), pa.array(names, table.schema.field(index).type))
