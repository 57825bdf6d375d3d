"""Advisory locks (`flock`), which die with their process: a killed run blocks nobody.

Processes on several machines need a file system that passes `flock` on (NFS 4 does).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[bool]:
    """Hold the lock file `lock`, alone; yields False, at once, where another process holds it.

    The holder's process id stands in the file (see `holder`), and the file is gone when the lock is.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(lock.open("a+"))
            if not _locked(file, fcntl.LOCK_EX):
                yield False
                return
            if _stands_at(lock, file):  # a holder deletes its file: a lock on a deleted one keeps nobody else out
                break
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold the claim on a file that is to be written; yields False, at once, where another process writes it.

    So several processes share work without a coordinator. The claim has a temporary name: see `files.py`.
    """
    with exclusive(path.with_name(f".{path.name}.claim.tmp")) as mine:
        yield mine


def is_held(lock: Path) -> bool:
    """Whether some process holds `lock` now."""
    if not lock.exists():
        return False
    with exclusive(lock) as mine:
        return not mine


def holder(lock: Path) -> str:
    """The process id in a lock file, for messages."""
    with contextlib.suppress(FileNotFoundError):
        return lock.read_text().strip() or "(unknown)"
    return "(unknown)"


@contextlib.contextmanager
def shared(lock: Path) -> Iterator[None]:
    """Hold `lock` together with other readers, waiting for whoever has it `alone`; the file stays."""
    with _waiting_for(lock, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Hold `lock` with no reader (see `shared`); yields False, at once, where there is one. The file stays."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        yield _locked(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def in_turn(lock: Path) -> Iterator[None]:
    """Hold `lock` alone, waiting for whoever has it; the file stays."""
    with _waiting_for(lock, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _waiting_for(lock: Path, kind: int) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, kind)
        yield


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
