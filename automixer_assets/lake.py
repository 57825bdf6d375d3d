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
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below, remove_temporaries, sync_folder, sync_tree, write_atomically
from automixer_assets.lake_artifact import MARKER, Artifact, StoredFile, Written, artifact_of, marker_bytes
from automixer_assets.locks import alone, exclusive, holder, is_held, shared

SCRATCH = "_scratch"
"""A subfolder of the working folder for resumable intermediate state; removed before publishing."""
PARTIAL = ".partial-"
"""How the name of a working folder begins; what follows is the digest that it will be published under."""
DIGEST_LENGTH = 32
MINIMUM_FREE_BYTES = 64 * 2**20
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_uses: ContextVar[set[str] | None] = ContextVar("_uses", default=None)
"""The artefacts that the writer now running has published or found on its way."""


class Lake:
    """A directory of artefacts. `remote_lake.RemoteLake` keeps them in an object store."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def users(self) -> Path:
        """The lock that every materialisation holds with the others, and whoever removes artefacts alone."""
        return self.root.with_name(f".{self.root.name}.users.lock")

    def in_use(self) -> contextlib.AbstractContextManager[None]:
        """While this is held nothing is removed from the lake: from reading an artefact to pinning it in an event."""
        return shared(self.users)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every materialisation waiting; raises AutomixerError where one is at work."""
        with alone(self.users) as mine:
            if not mine:
                raise AutomixerError(
                    "something is being materialised: wait until it ends, or cancel it, then run again"
                )
            yield

    def location(self, uri: str) -> str:
        """How messages and pages name what stands at `uri`: an artefact, or a file of one."""
        return str(self.root / uri)

    def local(self, uri: str) -> Path:
        """Where an artefact, or a file of one, is read on this machine; where there is none, nothing stands there."""
        return self.root / uri

    def root_with(self, uris: Iterable[str]) -> Path:
        """The folder below which these artefacts, or files of them, stand on this machine."""
        for uri in dict.fromkeys("/".join(uri.split("/")[:2]) for uri in uris):
            self.local(uri)
        return self.root

    def stored(self, artifact: Artifact, name: str, *, digests: bool) -> StoredFile | None:
        """A file of an artefact as it stands in the lake, whatever copies there are; None where it is gone."""
        path = artifact.folder / name
        return stored_file(path, digests=digests) if path.exists() else None

    def unlisted(self, artifact: Artifact) -> list[str]:
        """Files beside those of the artefact, which would be taken for its own."""
        found = (path.relative_to(artifact.folder).as_posix() for path in files_below(artifact.folder))
        return [name for name in found if name != MARKER and name not in artifact.files]

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
            remedy = f"restore it from a copy of the lake, or materialise {uri.partition('/')[0]} again"
            if (removed := self.removal_note(uri)) is not None:
                raise AutomixerError(f"{self.location(uri)} {removed}: {remedy}")
            raise AutomixerError(f"{self.location(uri)} is missing or incomplete: {remedy}")
        self._require_files(artifact)
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
        with self._writing(f"{kind}/{digest}"):
            return self.find(kind, digest) or self._write(kind, digest, writer, resumable)

    def adopt(self, artifact: Artifact, fill: Callable[[Path], None]) -> Artifact:
        """Publish what another lake has published, under its marker; `fill(folder)` has brought exactly its files.

        The folder is as a killed `adopt` left it.
        """
        with self._writing(artifact.uri):
            if (found := self.find(artifact.kind, artifact.digest)) is not None:
                return found
            working = self.root / artifact.kind / f"{PARTIAL}{artifact.digest}"
            working.mkdir(exist_ok=True)
            _require_space(working)
            with disk_full_is_said(working):
                fill(working)
                sync_tree(working)
                write_atomically(working / MARKER, marker_bytes(artifact))
            return self._commit(artifact.kind, artifact.digest, working)

    def bring(self, artifact: Artifact, name: str, path: Path) -> None:
        """Copy a file of an artefact to `path`; raises AutomixerError where it is gone or was changed."""
        shutil.copyfile(artifact.folder / name, path)
        if file_sha256(path) != artifact.files[name]:
            path.unlink()
            raise AutomixerError(f"{artifact.folder / name} is not what was published: restore it, or rebuild")

    @contextlib.contextmanager
    def _writing(self, uri: str) -> Iterator[None]:
        """Hold the lock of an artefact's writer; raises AutomixerError where another process does."""
        kind, _, digest = uri.partition("/")
        lock = self.root / kind / f".{digest}.lock"
        with exclusive(lock) as mine:
            if not mine:
                raise AutomixerError(
                    f"{uri} is being written by process {holder(lock)}: wait for that run or cancel it, then run again"
                )
            yield

    def artifacts(self) -> Iterator[Artifact]:
        """Everything that is published, by kind and digest."""
        for kind in self.kinds():
            for folder in sorted(path for path in kind.iterdir() if path.is_dir() and not path.name.startswith(".")):
                artifact = self.find(kind.name, folder.name)
                if artifact is not None:
                    yield artifact

    def kinds(self) -> list[Path]:
        """Folders of this machine in which artefacts stand, and are written."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def leftovers(self) -> dict[str, int]:
        """uri -> bytes of what killed passes left elsewhere than in their working folders."""
        return {}

    def withdraw(self, uri: str, note: bytes | None) -> None:
        """Begin to remove an artefact: `note` stays in its place. Its folder is for the caller to delete."""
        if note is not None:
            write_atomically(self.tombstone(uri), note)

    def withdrawn_size(self) -> int:
        """Bytes of what interrupted removals left elsewhere than in the trash."""
        return 0

    def sweep(self) -> None:
        """Delete what interrupted removals left elsewhere than in the trash."""

    def removal_note(self, uri: str) -> str | None:
        """When and why an artefact was removed on purpose, in half a sentence."""
        note = self.tombstone(uri)
        return note.read_text().strip() if note.exists() else None

    def tombstone(self, uri: str) -> Path:
        """The file of `removal_note`."""
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
        return self._commit(kind, digest, working)

    def _commit(self, kind: str, digest: str, working: Path) -> Artifact:
        """Make a finished working folder visible, at once."""
        final = self.root / kind / digest
        working.rename(final)
        self.tombstone(f"{kind}/{digest}").unlink(missing_ok=True)
        sync_folder(final.parent)
        return _read_marker(kind, digest, final)

    def _require_files(self, artifact: Artifact) -> None:
        missing = [name for name in artifact.files if not (artifact.folder / name).exists()]
        if missing:
            raise AutomixerError(
                f"{artifact.folder / missing[0]} was deleted: restore it, or delete {artifact.folder} and rebuild"
            )


def digest_of(value: Any) -> str:
    """sha256 (first 32 hex digits) of the canonical JSON of `value`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGEST_LENGTH]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_file(path: Path, *, digests: bool) -> StoredFile:
    return StoredFile(path.stat().st_size, file_sha256(path) if digests else None)


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
    return artifact_of(json.loads((folder / MARKER).read_text()), kind, digest, folder)


@contextlib.contextmanager
def _recording_uses() -> Iterator[set[str]]:
    """What is published inside counts as used by the artefact being written."""
    uses: set[str] = set()
    token = _uses.set(uses)
    try:
        yield uses
    finally:
        _uses.reset(token)
