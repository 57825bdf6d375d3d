"""What of an object store's artefacts is on this machine: all of one, some of its files, or ranges as they are read.

A copy that is whole has its marker, one of some files has a note (`PART`). Whole files are verified by sha256. Of a
file that is read by ranges the size is compared with the marker's, and every range is of the object that was opened.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path, write_atomically
from automixer_assets.lake import MARKER, Artifact, disk_full_is_said, file_sha256, marker_bytes
from automixer_assets.lake_cache import PART, LakeCache
from automixer_assets.lake_path import MIRRORS, LakePath, OnFailure
from automixer_assets.locks import in_turn
from automixer_assets.object_store import ObjectStore
from automixer_assets.ranged_file import RangedFile

CACHE_REMEDY = "free some (or move AUTOMIXER_LAKE_CACHE to a larger disk) and run again"


class Copies:
    """Copies below the cache's folder of what the store holds."""

    def __init__(self, store: ObjectStore, cache: LakeCache) -> None:
        self.store, self.cache = store, cache
        self._by_file: dict[str, Artifact] = {}

    def fetch(self, artifact: Artifact) -> None:
        """Bring all files to the artefact's folder, unless they are there.

        Raises:
            AutomixerError: an object is gone, or its bytes are not those that were published, or there is no room.
        """
        self._bring(artifact, list(artifact.files))

    def fetch_file(self, artifact: Artifact, name: str) -> None:
        """The same for one file."""
        self._bring(artifact, [name])

    def by_file(self, artifact: Artifact) -> Path:
        """The folder, each file of which comes here when it is opened and may go again when it was read."""
        self.cache.hold(artifact.uri)
        if self.is_whole(artifact):
            return artifact.folder
        self._mount()
        self._by_file[artifact.uri] = artifact
        return LakePath(artifact.folder)

    def _mount(self) -> None:
        """Answer for paths below the cache from now on, those that were given out by the one before as well."""
        before = MIRRORS.get(str(self.cache.root))
        if isinstance(before, Copies) and before is not self and before.store.url == self.store.url:
            before._by_file.update(self._by_file)
            self._by_file = before._by_file
        MIRRORS[str(self.cache.root)] = self

    def sizes(self, uri: str) -> Mapping[str, int | None] | None:
        artifact = self._by_file.get(uri)
        return None if artifact is None else {name: artifact.sizes.get(name) for name in artifact.files}

    def bring(self, uri: str, names: list[str]) -> None:
        self._bring(self._by_file[uri], names, passing=len(names) == 1)

    def open_ranges(self, uri: str, name: str, on_failure: OnFailure | None = None) -> BinaryIO:
        artifact = self._by_file[uri]
        key = _key(artifact, name)
        opened = self.store.open(key)
        if opened is None:
            raise _deleted(self.store.location(key))
        if name in artifact.sizes and opened.size != artifact.sizes[name]:
            raise AutomixerError(
                f"{self.store.location(key)} was changed: it has {opened.size:,} bytes where {artifact.sizes[name]:,} "
                "were published; restore it from a copy of the lake"
            )
        return cast("BinaryIO", RangedFile(opened, on_failure))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While nothing else of this machine fetches, so that the bound on copies holds."""
        with in_turn(self.cache.root / ".fetching.lock"):
            yield

    def is_whole(self, artifact: Artifact) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return json.loads((artifact.folder / MARKER).read_text())["files"] == artifact.files
        return False

    def _bring(self, artifact: Artifact, names: Sequence[str], *, passing: bool = False) -> None:
        """With `passing` this process may delete the files again, others having been opened since."""
        self.cache.hold(artifact.uri)
        for name in names:
            self.cache.used(artifact.uri, name, passing=passing)
        if self.is_whole(artifact):
            return
        with self.alone(), disk_full_is_said(artifact.folder, CACHE_REMEDY):
            if self.is_whole(artifact):
                return
            self._begin(artifact)
            missing = [name for name in names if not (artifact.folder / name).exists()]
            self.cache.make_room(sum(artifact.sizes.get(name, 0) for name in missing), artifact.uri)
            for name in missing:
                self.bring_to(artifact, name, artifact.folder / name)
            if len(names) == len(artifact.files):
                write_atomically(artifact.folder / MARKER, marker_bytes(artifact))
                (artifact.folder / PART).unlink()

    def _begin(self, artifact: Artifact) -> None:
        """The folder, with files of this very artefact or none."""
        note = json.dumps({"files": artifact.files}).encode()
        with contextlib.suppress(FileNotFoundError):
            if (artifact.folder / PART).read_bytes() == note:
                return
        shutil.rmtree(artifact.folder, ignore_errors=True)
        artifact.folder.mkdir(parents=True)
        write_atomically(artifact.folder / PART, note)

    def bring_to(self, artifact: Artifact, name: str, path: Path) -> None:
        """Have the file at `path`, wherever that is."""
        key, sha256 = _key(artifact, name), artifact.files[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # what is wrong the second time was not lost on the way
            with contextlib.suppress(_Altered), atomic_path(path) as temporary:
                if not self.store.fetch(key, temporary):
                    raise _deleted(self.store.location(key))
                if file_sha256(temporary) != sha256:
                    raise _Altered
            if path.exists():
                return
        raise AutomixerError(
            f"{self.store.location(key)} was changed: its sha256 is not {sha256[:12]}.. as published; restore it from "
            f"a copy of the lake, or delete its {MARKER} and materialise it again"
        )


class _Altered(Exception):
    """The bytes that came are not those that were published."""


def _key(artifact: Artifact, name: str) -> str:
    return f"{artifact.uri}/{artifact.objects.get(name, name)}"


def _deleted(location: str) -> AutomixerError:
    return AutomixerError(f"{location} was deleted: restore it from a copy of the lake")
