"""Paths into an artefact of an object store: a file comes to this machine when something opens it.

As in cloudpathlib, asking a path for its name as a file (`os.fspath`, which is how Python, Arrow, Polars and
safetensors open one) fetches it; whether it is there, how large, and what lies below is answered from the marker. Under
a pattern or a folder all that it covers is fetched. `str(path)` fetches nothing: SQL gets its files by name, and reads
them through `lake_filesystem.py`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from automixer_assets.errors import AutomixerError

OnFailure = Callable[[AutomixerError], None]


class Mirror(Protocol):
    """What a path asks of the copies that it lies among; see `lake_copies.py`."""

    def sizes(self, uri: str) -> Mapping[str, int | None] | None:
        """Bytes of the files of an artefact by name, None where not recorded; None where it is not read by files."""
        ...

    def bring(self, uri: str, names: list[str]) -> None:
        """Have these files here, whole and verified."""
        ...

    def open_ranges(self, uri: str, name: str, on_failure: OnFailure | None = None) -> BinaryIO:
        """The file as it stands in the store, read by ranges; `on_failure` is told of one that cannot be."""
        ...


MIRRORS: dict[str, Mirror] = {}
"""By folder of copies; a path holds no more than its name (Python 3.11 gives its children nothing else)."""


class LakePath(type(Path())):
    """A path at or below the folder of an artefact that is read by files."""

    def __fspath__(self) -> str:
        name = str(self)
        if (place := placed(name)) is not None:
            mirror, uri, inner = place
            if covered := _covered(mirror.sizes(uri) or {}, inner):
                mirror.bring(uri, covered)
        return name

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        place = placed(str(self))
        return Path(str(self)).is_file() if place is None else place[2] in (place[0].sizes(place[1]) or {})

    def is_dir(self) -> bool:
        place = placed(str(self))
        if place is None:
            return Path(str(self)).is_dir()
        names = place[0].sizes(place[1]) or {}
        return not place[2] or any(name.startswith(place[2] + "/") for name in names)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        place = placed(str(self))
        files = {} if place is None else place[0].sizes(place[1]) or {}
        size = None if place is None else files.get(place[2])
        if size is None:
            there = os.fspath(self) if place is not None and place[2] in files else str(self)
            return Path(there).stat(follow_symlinks=follow_symlinks)
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def iterdir(self) -> Generator[LakePath, None, None]:
        names = (name.split("/")[0] for name in self._below())
        yield from (self / name for name in dict.fromkeys(names))

    def glob(self, pattern: str) -> Iterator[LakePath]:  # pyright: ignore[reportIncompatibleMethodOverride]
        yield from (self / name for name in _with_folders(self._below()) if _matches(name, pattern))

    def rglob(self, pattern: str) -> Iterator[LakePath]:  # pyright: ignore[reportIncompatibleMethodOverride]
        names = _with_folders(self._below())
        yield from (self / name for name in names if _matches(name.split("/")[-1], pattern))

    def resolve(self, strict: bool = False) -> LakePath:
        return type(self)(os.path.realpath(str(self)))

    def __reduce__(self) -> tuple[type[Path], tuple[str]]:
        """Another process gets the files that are here, for it does not know where others are."""
        return Path, (os.fspath(self),)

    def _below(self) -> list[str]:
        """Files below it, by names relative to it."""
        if (place := placed(str(self))) is None:
            folder = Path(str(self))
            return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        start = f"{place[2]}/" if place[2] else ""
        names = sorted(place[0].sizes(place[1]) or {})
        return [name[len(start) :] for name in names if name.startswith(start)]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path | BinaryIO]:
    """What Arrow reads a file from: the path or, where the file is not here, ranges of what is in the store."""
    place = placed(str(path))
    if place is None or Path(str(path)).exists():
        yield path
        return
    with place[0].open_ranges(place[1], place[2]) as file:
        yield file


def placed(name: str) -> tuple[Mirror, str, str] | None:
    """The copies, the artefact and the file in it that a path names; None where it is an ordinary file."""
    for folder, mirror in MIRRORS.items():
        if name.startswith(folder + "/"):
            kind, _, rest = name[len(folder) + 1 :].partition("/")
            digest, _, inner = rest.partition("/")
            uri = f"{kind}/{digest}"
            return None if mirror.sizes(uri) is None else (mirror, uri, inner)
    return None


def _matches(name: str, pattern: str) -> bool:
    """Whether each part of a relative name fits that of the pattern."""
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


def _covered(files: Mapping[str, int | None], inner: str) -> list[str]:
    if inner in files:
        return [inner]
    start = f"{inner}/" if inner else ""
    if "*" in inner:
        return [name for name in sorted(files) if _matches(name, inner)]
    return [name for name in sorted(files) if name.startswith(start)]


def _with_folders(names: list[str]) -> list[str]:
    folders = {str(parent) for name in names for parent in Path(name).parents} - {"."}
    return sorted({*names, *folders})
