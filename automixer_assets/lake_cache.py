"""Local copies of a remote lake's artefacts, bounded in bytes: the least recently used go first.

A copy stands at the place that it has in a local lake, `KIND/DIGEST`. What a process reads it holds by a shared lock,
which dies with it, so no process takes a folder from under another. Of an artefact that it reads by files, and nobody
else reads, a process deletes those files that it opened before others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below
from automixer_assets.lake import MARKER
from automixer_assets.locks import alone

PART = "_PART.json"
"""In the folder of a copy that is not whole; see `lake_copies.py`."""
KEPT_FILES = 16
"""So many of the files that were last asked for stay: what was named may not have been opened yet. One that was opened
is read to its end, whether it has a name or not."""


@dataclass(frozen=True)
class Copy:
    """A folder of the cache; `used`: when it was last opened, on this machine's clock."""

    uri: str
    size: int
    used: int


class LakeCache:
    """Copies below `root`, together at most `limit` bytes."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        self._held: dict[str, IO[str]] = {}
        self._passing: dict[tuple[str, str], None] = {}

    def hold(self, uri: str) -> None:
        """Keep the copy at `uri` until `release`, or as long as this process lives."""
        if uri not in self._held:
            file = self._lock(uri).open("a")
            fcntl.flock(file, fcntl.LOCK_SH)
            self._held[uri] = file
        for name in (MARKER, PART):
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.root / uri / name)

    def used(self, uri: str, name: str, *, passing: bool) -> None:
        """A file is asked for; one that is `passing` may be deleted again, though this process holds its artefact."""
        self._passing.pop((uri, name), None)
        if passing:
            self._passing[uri, name] = None

    def release(self) -> None:
        """Hold nothing any more."""
        self._passing.clear()
        while self._held:
            self._held.popitem()[1].close()

    def make_room(self, size: int, uri: str) -> None:
        """Remove copies until `size` more bytes fit.

        Raises:
            AutomixerError: what is held leaves no room for them.
        """
        copies = sorted(self.copies(), key=lambda copy: copy.used)
        total = sum(copy.size for copy in copies) + size
        for copy in copies:
            if total <= self.limit:
                return
            if copy.uri != uri and self._remove(copy.uri):
                total -= copy.size
        for uri_read, name in list(self._passing)[:-KEPT_FILES]:
            if total > self.limit:
                total -= self._remove_file(uri_read, name)
        if total > self.limit:
            raise AutomixerError(
                f"{uri} needs {size:,} bytes of local disk, and with what is in use the copies of the lake would take "
                f"{total:,} where AUTOMIXER_LAKE_CACHE_BYTES allows {self.limit:,}: raise it, or run fewer at once"
            )

    def shrink(self) -> None:
        """Remove copies that nobody holds until the rest is within the limit, as far as that goes."""
        with contextlib.suppress(AutomixerError):
            self.make_room(0, "")

    def copies(self) -> list[Copy]:
        """Every copy, whole or not."""
        return [
            Copy(
                f"{marker.parent.parent.name}/{marker.parent.name}",
                sum(path.stat().st_size for path in files_below(marker.parent)),
                marker.stat().st_mtime_ns,
            )
            for marker in [*self.root.glob(f"*/[!.]*/{MARKER}"), *self.root.glob(f"*/[!.]*/{PART}")]
        ]

    def _remove(self, uri: str) -> bool:
        """False where some process, this one included, holds it."""
        with alone(self._lock(uri)) as mine:
            if mine:
                for name in (MARKER, PART):  # a kill in what follows leaves no half copy
                    (self.root / uri / name).unlink(missing_ok=True)
                shutil.rmtree(self.root / uri, ignore_errors=True)
            return mine

    def _remove_file(self, uri: str, name: str) -> int:
        """Bytes that went: none where another process holds the artefact, or its copy is whole by now."""
        path, lock = self.root / uri / name, self._held[uri]
        if (self.root / uri / MARKER).exists() or not path.exists():
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)  # a failed conversion may have given it up
            return 0
        size = path.stat().st_size
        path.unlink()
        self._passing.pop((uri, name), None)
        fcntl.flock(lock, fcntl.LOCK_SH)
        return size

    def _lock(self, uri: str) -> Path:
        kind, _, digest = uri.partition("/")
        lock = self.root / kind / f".{digest}.used"
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock
