"""An artefact of a lake, and its marker: what is known of a published folder without looking into it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

MARKER = "_COMPLETE.json"


class Source(Protocol):
    """Brings the files of an artefact from where they are kept to its folder."""

    def fetch(self, artifact: Artifact) -> None:
        """All of them."""
        ...

    def fetch_file(self, artifact: Artifact, name: str) -> None:
        """One of them."""
        ...

    def by_file(self, artifact: Artifact) -> Path:
        """Its folder, in which a file is fetched when it is opened."""
        ...


@dataclass(frozen=True)
class Artifact:
    """A published folder. `content` is the sha256 over its files: what a data version is made of.

    `files` holds digests and `sizes` bytes by name; `uses` names artefacts that the writer published on its way. Sizes
    are empty and `uses` is None for folders that were published before they were recorded. `folder` is where its files
    stand once `path` was asked for: of a lake in an object store, `source` brings them there first, and `objects` are
    the keys of files that are not stored under their own name.
    """

    kind: str
    digest: str
    folder: Path
    content: str
    seconds: float
    files: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)
    uses: tuple[str, ...] | None = None
    objects: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    source: Source | None = field(default=None, repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The folder with its files, on this machine."""
        if self.source is not None:
            self.source.fetch(self)
        return self.folder

    def file(self, name: str) -> Path:
        """One of its files, on this machine; of a name that it does not have there is nothing."""
        if self.source is not None and name in self.files:
            self.source.fetch_file(self, name)
        return self.folder / name

    @property
    def by_file(self) -> Path:
        """The folder, for what may be larger than this machine's disk: see `lake_path.py` about an object store's.

        Files come when they are opened, and may go when they were read; SQL reads ranges of them.
        """
        return self.folder if self.source is None else self.source.by_file(self)

    @property
    def uri(self) -> str:
        """Relative to the lake's root, so that a lake can be moved or copied."""
        return f"{self.kind}/{self.digest}"


@dataclass(frozen=True)
class StoredFile:
    """A file as it stands in the lake now; `sha256` only where it was asked for."""

    size: int
    sha256: str | None


@dataclass(frozen=True)
class Written:
    """What a writer may return: a content digest of its own, for files that also record when and where they ran."""

    content: str | None = None


def artifact_of(
    marker: dict[str, Any],
    kind: str,
    digest: str,
    folder: Path,
    source: Source | None = None,
) -> Artifact:
    """What a marker says of the artefact that it completes."""
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
        marker.get("objects", {}),
        source,
    )


def marker_bytes(artifact: Artifact) -> bytes:
    """The marker of a folder in which every file has its own name; inverse of `artifact_of`."""
    marker: dict[str, Any] = {
        "kind": artifact.kind,
        "digest": artifact.digest,
        "content": artifact.content,
        "seconds": artifact.seconds,
        "files": artifact.files,
        "sizes": artifact.sizes,
    }
    return (
        json.dumps(marker if artifact.uses is None else {**marker, "uses": list(artifact.uses)}, indent=1).encode()
        + b"\n"
    )
