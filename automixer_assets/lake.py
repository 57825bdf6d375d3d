"""The lake: immutable, content-addressed folders, published whole or not at all.

`Lake.publish(kind, digest, writer)` lets `writer` fill a working folder, then records every file's sha256 in
`_COMPLETE.json` and renames the folder to `<kind>/<digest>`. The digest names the inputs, so publishing again is a
lookup, and a killed pass finds its finished files under the same working name. Nothing here knows about Dagster.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below, remove_temporaries, sync_folder, sync_tree, write_atomically

MARKER = "_COMPLETE.json"
SCRATCH = "_scratch"
"""A subfolder of the working folder for resumable intermediate state; removed before publishing."""
PARTIAL = ".partial-"
"""How the name of a working folder begins; what follows is the digest that it will be published under."""
DIGEST_LENGTH = 32
MINIMUM_FREE_BYTES = 64 * 2**20
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Artifact:
    """A published folder. `content` is the sha256 over its files: what a data version is made of."""

    kind: str
    digest: str
    path: Path
    content: str
    seconds: float
    files: dict[str, str]

    @property
    def uri(self) -> str:
        """Relative to the lake's root, so that a lake can be moved or copied."""
        return f"{self.kind}/{self.digest}"


@dataclass(frozen=True)
class Written:
    """What a writer may return: a content digest of its own, for files that also record when and where they ran."""

    content: str | None = None


class Lake:
    """A directory of artefacts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, digest: str) -> Artifact | None:
        """The published artefact, or None."""
        folder = self.root / kind / digest
        return _read_marker(kind, digest, folder) if (folder / MARKER).exists() else None

    def find_uri(self, uri: str) -> Artifact | None:
        """The published artefact at `uri`, or None."""
        kind, _, digest = uri.partition("/")
        return self.find(kind, digest)

    def open(self, uri: str) -> Artifact:
        """The artefact at `uri`; raises AutomixerError naming what is gone."""
        artifact = self.find_uri(uri)
        if artifact is None:
            raise AutomixerError(
                f"{self.root / uri} is missing or incomplete: "
                f"restore it from a copy of the lake, or materialise {uri.partition('/')[0]} again"
            )
        missing = [name for name in artifact.files if not (artifact.path / name).exists()]
        if missing:
            raise AutomixerError(
                f"{artifact.path / missing[0]} was deleted: restore it, or delete {artifact.path} and rebuild"
            )
        return artifact

    def publish(
        self, kind: str, digest: str, writer: Callable[[Path], Written | None], *, resumable: bool = False
    ) -> Artifact:
        """Return the artefact, running `writer(folder)` only if it is not there yet.

        With `resumable`, a working folder left by a killed run is handed to the writer as it is; it must then hold
        only files that were themselves renamed into place. Otherwise the folder starts empty.

        Raises:
            AutomixerError: another process is writing the same artefact, or the disk is full.
        """
        if (found := self.find(kind, digest)) is not None:
            return found
        (self.root / kind).mkdir(parents=True, exist_ok=True)
        with _exclusive(self.root / kind / f".{digest}.lock", f"{kind}/{digest}"):
            if (found := self.find(kind, digest)) is not None:
                return found
            return self._write(kind, digest, writer, resumable)

    def _write(self, kind: str, digest: str, writer: Callable[[Path], Written | None], resumable: bool) -> Artifact:
        working, final = self.root / kind / f"{PARTIAL}{digest}", self.root / kind / digest
        if final.exists():  # a folder without its marker: deleted or copied halfway
            shutil.rmtree(final)
        if working.exists() and not resumable:
            shutil.rmtree(working)
        working.mkdir(exist_ok=True)
        _require_space(working)
        started = time.monotonic()
        with disk_full_is_said(working):
            written = writer(working) or Written()
            shutil.rmtree(working / SCRATCH, ignore_errors=True)
            remove_temporaries(working)
            (working / MARKER).unlink(missing_ok=True)
            files = {path.relative_to(working).as_posix(): file_sha256(path) for path in files_below(working)}
            marker = {
                "kind": kind,
                "digest": digest,
                "content": written.content or digest_of(files),
                "seconds": round(time.monotonic() - started, 3),
                "files": files,
            }
            sync_tree(working)
            write_atomically(working / MARKER, json.dumps(marker, indent=1).encode() + b"\n")
        working.rename(final)
        sync_folder(final.parent)
        return _read_marker(kind, digest, final)


def digest_of(value: Any) -> str:
    """sha256 (first 32 hex digits) of the canonical JSON of `value`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGEST_LENGTH]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """sha256 over relative names and contents of the files below `folder`; hidden and compiled ones do not count."""
    files = {path.relative_to(folder).as_posix(): path for path in files_below(folder)}
    counted = {name: path for name, path in files.items() if not _passing(name)}
    return digest_of({name: file_sha256(path) for name, path in sorted(counted.items())})


def _passing(name: str) -> bool:
    """What editors and Python leave beside files that matter."""
    return any(part.startswith((".", "__pycache__")) for part in name.split("/")) or name.endswith((".pyc", "~"))


@contextlib.contextmanager
def disk_full_is_said(
    folder: Path, remedy: str = "free some (or move AUTOMIXER_STATE to a larger disk) and run again"
) -> Iterator[None]:
    """Turn a full disk, in the words of whatever library met it, into one sentence."""
    try:
        yield
    except Exception as error:  # polars, DuckDB and safetensors raise errors of their own, without errno
        full = getattr(error, "errno", None) in DISK_FULL or any(os.strerror(code) in str(error) for code in DISK_FULL)
        if not full:
            raise
        raise AutomixerError(f"no disk space left while writing {folder}: {remedy}") from error


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < MINIMUM_FREE_BYTES:
        raise AutomixerError(
            f"only {free // 2**20} MiB of disk space left at {folder}: "
            "free some (or move AUTOMIXER_STATE to a larger disk)"
        )


def _read_marker(kind: str, digest: str, folder: Path) -> Artifact:
    marker = json.loads((folder / MARKER).read_text())
    return Artifact(kind, digest, folder, marker["content"], marker["seconds"], marker["files"])


@contextlib.contextmanager
def _exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock that dies with the process, so that a killed run blocks nobody."""
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(lock.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise AutomixerError(
                    f"{what} is being written by process {file.read().strip() or '(unknown)'}: "
                    "wait for that run or cancel it, then run again"
                ) from None
            # The previous holder deletes the file: a lock on a deleted file keeps nobody else out.
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                break
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
