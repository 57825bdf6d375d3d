"""Local copies of a remote lake's artefacts, bounded in bytes: the least recently used go first.

A copy stands at the place that it has in a local lake, `KIND/DIGEST`. What a process reads it holds by a shared lock,
which dies with it, so no process takes a folder from under another.
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

    def hold(self, uri: str) -> None:
        """Keep the copy at `uri` until `release`, or as long as this process lives."""
        if uri not in self._held:
            file = self._lock(uri).open("a")
            fcntl.flock(file, fcntl.LOCK_SH)
            self._held[uri] = file
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.root / uri / MARKER)

    def release(self) -> None:
        """Hold nothing any more."""
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
        """Every complete copy."""
        return [
            Copy(
                f"{marker.parent.parent.name}/{marker.parent.name}",
                sum(path.stat().st_size for path in files_below(marker.parent)),
                marker.stat().st_mtime_ns,
            )
            for marker in self.root.glob(f"*/[!.]*/{MARKER}")
        ]

    def _remove(self, uri: str) -> bool:
        """False where some process, this one included, holds it."""
        with alone(self._lock(uri)) as mine:
            if mine:
                (self.root / uri / MARKER).unlink(missing_ok=True)  # a kill in what follows leaves no half copy
                shutil.rmtree(self.root / uri, ignore_errors=True)
            return mine

    def _lock(self, uri: str) -> Path:
        kind, _, digest = uri.partition("/")
        lock = self.root / kind / f".{digest}.used"
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock
