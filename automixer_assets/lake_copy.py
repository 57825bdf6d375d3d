"""Copy a lake to another place, disk or object store: what is there already is not copied again.

Artefacts keep their names and markers, so the event log that names them fits the copy too. Files that two writers left
under `_OTHER/` of a store get their own names. Every file is compared with its sha256 on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below
from automixer_assets.lake import Artifact, Lake, file_sha256


@dataclass
class CopiedLake:
    """How many artefacts were copied, with their bytes, and how many were there; those that differ, by uri."""

    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    differing: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return vars(self)


def copy_lake(source: Lake, target: Lake, observe: Callable[[Artifact], None] = lambda artifact: None) -> CopiedLake:
    """Copy every artefact that the target lacks; one that it has with other files is left and named.

    Args:
        observe: told of each artefact that was copied.

    Raises:
        AutomixerError: there is nothing to copy, or a file is not what was published.
    """
    if source.location("") == target.location(""):
        raise AutomixerError(f"{source.location('')} cannot be copied to itself: name two places")
    result = CopiedLake()
    with source.in_use(), target.in_use():
        for artifact in source.artifacts():
            there = target.find_uri(artifact.uri)
            if there is None:
                there = target.adopt(artifact, _filling(source, artifact))
                result.copied += 1
                result.copied_bytes += sum(artifact.sizes.values())
                observe(artifact)
            else:
                result.present += 1
            if there.files != artifact.files:
                result.differing.append(artifact.uri)
    if not result.copied and not result.present:
        raise AutomixerError(f"{source.location('')} holds no artefact: correct the address")
    return result


def _filling(source: Lake, artifact: Artifact) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        """Leaves exactly the artefact's files; those that an interrupted copy brought whole are not brought again."""
        for path in files_below(folder):
            name = path.relative_to(folder).as_posix()
            if artifact.files.get(name) != file_sha256(path):
                path.unlink()
        for name in artifact.files:
            path = folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                source.bring(artifact, name, path)

    return fill
