"""Claims on files to be written, so that several processes share work without a coordinator.

A claim is an advisory lock (`flock`) on a small file beside the target. It dies with its process, so what a killed one
left undone is free at once; the file it leaves behind counts for nothing. Processes on several machines need a file
system that passes `flock` on (NFS 4 does).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the claim on `path`; yields False, at once, where another process holds it or has just let it go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = path.with_name(f".{path.name}.claim.tmp")  # a temporary name: see `files.py`
    with claim.open("a") as file:
        if not _locked(file) or not _stands_at(claim, file):
            yield False
            return
        try:
            yield True
        finally:
            claim.unlink(missing_ok=True)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands_at(path: Path, file: IO[str]) -> bool:
    """A holder deletes its claim: a lock on a deleted file keeps nobody else out."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
