"""Is everything that a mixture was made from still there, and as it was? Every file that is not is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automixer_assets.lake import Lake, file_sha256, folder_digest
from automixer_assets.lineage_graph import Lineage, Node, Source, file_size

BLOCK = 2**22
Resolve = Callable[[str], Path]


@dataclass(frozen=True)
class Fault:
    """Something that is missing or changed. `name` says which materialisation needs it."""

    name: str
    path: str
    problem: str

    @property
    def sentence(self) -> str:
        return f"{self.path} {self.problem} ({self.name})"


def check_lineage(
    lineage: Lineage,
    lake: Lake,
    resolve: Resolve,
    *,
    digests: bool,
    storage_options: Mapping[str, Any] | None = None,
) -> list[Fault]:
    """Compare the lake and the source files with what was recorded; `resolve` gives the place of a settings path.

    Without `digests` a file of the lake counts as whole by name and size. Source files, which others may write, are
    read in any case, those at a URL through fsspec with `storage_options`.
    """
    faults = [fault for node in lineage.nodes.values() for fault in _artifact_faults(node, lake, digests)]
    seen: set[Source] = set()
    for node in lineage.nodes.values():
        for source in node.sources:
            if source not in seen:
                seen.add(source)
                if "://" in source.path:
                    faults.extend(_remote_faults(node.name, source, storage_options or {}))
                else:
                    faults.extend(_source_faults(node.name, source, resolve(source.path)))
    return faults


def _artifact_faults(node: Node, lake: Lake, digests: bool) -> Iterator[Fault]:
    if node.artifact is None:
        said = lake.removal_note(node.event.uri) or "is missing or incomplete"
        yield Fault(node.name, lake.location(node.event.uri), said)
        return
    if node.artifact.content != node.event.sha256:
        yield Fault(node.name, lake.location(node.artifact.uri), "was replaced: its content is not what was pinned")
    for name, sha256 in node.artifact.files.items():
        found, place = lake.stored(node.artifact, name, digests=digests), lake.location(f"{node.artifact.uri}/{name}")
        if found is None:
            yield Fault(node.name, place, "was deleted")
        elif found.size != file_size(node.artifact, name) or (digests and found.sha256 != sha256):
            yield Fault(node.name, place, "was changed")


def _source_faults(name: str, source: Source, path: Path) -> Iterator[Fault]:
    if not path.exists():
        yield Fault(name, str(path), "is gone since it was read")
    elif _digest(source, path) != source.sha256:
        yield Fault(name, str(path), "changed since it was read")


def _remote_faults(name: str, source: Source, options: Mapping[str, Any]) -> Iterator[Fault]:
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(source.path, **options)
        opened: Any = files.open(path, "rb")
        with opened as file:
            digest = hashlib.sha256()
            while block := file.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        yield Fault(name, source.path, "is gone since it was read")
        return
    if digest.hexdigest() != source.sha256:
        yield Fault(name, source.path, "changed since it was read")


def _digest(source: Source, path: Path) -> str:
    return folder_digest(path) if source.kind == "folder" else file_sha256(path)
