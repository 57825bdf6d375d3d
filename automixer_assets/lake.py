"""The lake: immutable, content-addressed folders, published whole or not at all.

`Lake.publish(kind, digest, writer)` lets `writer` fill a working folder, then records every file's sha256 in
`_COMPLETE.json` and renames the folder to `<kind>/<digest>`. The digest names the inputs, so publishing again is a
lookup, and a killed pass finds its finished files under the same working name. `lake_removal.py` takes artefacts out
again. Nothing here knows about Dagster.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below, remove_temporaries, sync_folder, sync_tree, write_atomically
from automixer_assets.locks import exclusive, holder, is_held, shared

MARKER = "_COMPLETE.json"
SCRATCH = "_scratch"
"""A subfolder of the working folder for resumable intermediate state; removed before publishing."""
PARTIAL = ".partial-"
"""How the name of a working folder begins; what follows is the digest that it will be published under."""
DIGEST_LENGTH = 32
MINIMUM_FREE_BYTES = 64 * 2**20
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_uses: ContextVar[set[str] | None] = ContextVar("_uses", default=None)
"""The artefacts that the writer now running has published or found on its way."""


@dataclass(frozen=True)
class Artifact:
    """A published folder. `content` is the sha256 over its files: what a data version is made of.

    `files` holds digests and `sizes` bytes by name; `uses` names artefacts that the writer published on its way. Sizes
    are empty and `uses` is None for folders that were published before they were recorded.
    """

    kind: str
    digest: str
    path: Path
    content: str
    seconds: float
    files: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)
    uses: tuple[str, ...] | None = None

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

    @property
    def users(self) -> Path:
        """The lock that every materialisation holds with the others, and whoever removes artefacts alone."""
        return self.root.with_name(f".{self.root.name}.users.lock")

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """While this is held nothing is removed from the lake: from reading an artefact to pinning it in an event."""
        return shared(self.users)

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
            removed = self.tombstone(uri)
            remedy = f"restore it from a copy of the lake, or materialise {uri.partition('/')[0]} again"
            if removed.exists():
                raise AutomixerError(f"{self.root / uri} {removed.read_text().strip()}: {remedy}")
            raise AutomixerError(f"{self.root / uri} is missing or incomplete: {remedy}")
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
        used = _uses.get()
        if used is not None:
            used.add(f"{kind}/{digest}")
        if (found := self.find(kind, digest)) is not None:
            return found
        lock = self.root / kind / f".{digest}.lock"
        with exclusive(lock) as mine:
            if not mine:
                raise AutomixerError(
                    f"{kind}/{digest} is being written by process {holder(lock)}: "
                    "wait for that run or cancel it, then run again"
                )
            if (found := self.find(kind, digest)) is not None:
                return found
            return self._write(kind, digest, writer, resumable)

    def tombstone(self, uri: str) -> Path:
        """Where it says in half a sentence that an artefact was removed on purpose."""
        kind, _, digest = uri.partition("/")
        return self.root / kind / f".removed-{digest}"

    def is_being_written(self, uri: str) -> bool:
        kind, _, digest = uri.partition("/")
        return is_held(self.root / kind / f".{digest}.lock")

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
            with _recording_uses() as uses:
                written = writer(working) or Written()
            shutil.rmtree(working / SCRATCH, ignore_errors=True)
            remove_temporaries(working)
            (working / MARKER).unlink(missing_ok=True)
            marker = _marker(kind, digest, working, written.content, time.monotonic() - started, uses)
            sync_tree(working)
            write_atomically(working / MARKER, json.dumps(marker, indent=1).encode() + b"\n")
        working.rename(final)
        self.tombstone(f"{kind}/{digest}").unlink(missing_ok=True)
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


def _marker(
    kind: str, digest: str, working: Path, content: str | None, seconds: float, uses: set[str]
) -> dict[str, Any]:
    paths = {path.relative_to(working).as_posix(): path for path in files_below(working)}
    files = {name: file_sha256(path) for name, path in paths.items()}
    return {
        "kind": kind,
        "digest": digest,
        "content": content or digest_of(files),
        "seconds": round(seconds, 3),
        "files": files,
        "sizes": {name: path.stat().st_size for name, path in paths.items()},
        "uses": sorted(uses),
    }


def _read_marker(kind: str, digest: str, folder: Path) -> Artifact:
    marker = json.loads((folder / MARKER).read_text())
    uses = marker.get("uses")
    return Artifact(
        kind,
        digest,
        folder,
        marker["content"],
        marker["seconds"],
        marker["files"],
        marker.get("sizes", {}),
        None if uses is None else tuple(uses),
    )


@contextlib.contextmanager
def _recording_uses() -> Iterator[set[str]]:
    """What is published inside counts as used by the artefact being written."""
    uses: set[str] = set()
    token = _uses.set(uses)
    try:
        yield uses
    finally:
        _uses.reset(token)
