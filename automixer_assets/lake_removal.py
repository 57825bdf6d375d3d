"""Taking artefacts out of the lake so that a kill at any moment loses nothing that was to stay.

Each is renamed into a trash folder, which is emptied afterwards; a note under its name says when and why it went. What
runs must hold `Lake.in_use`, so that an artefact is not taken from under a materialisation that is about to pin it.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from automixer_assets.files import files_below, sync_folder
from automixer_assets.lake import PARTIAL, Artifact, Lake

TRASH = ".trash"


@dataclass(frozen=True)
class Unfinished:
    """The working folder of a pass that was killed, or of one that runs; and what it had uploaded so far."""

    uri: str
    path: Path
    size: int


def unfinished(lake: Lake) -> list[Unfinished]:
    """Working folders, by kind and digest."""
    found = {
        f"{kind.name}/{folder.name.removeprefix(PARTIAL)}": folder
        for kind in lake.kinds()
        for folder in sorted(kind.glob(f"{PARTIAL}*"))
    }
    sizes = {uri: folder_size(folder) for uri, folder in found.items()}
    for uri, size in lake.leftovers().items():
        kind, _, digest = uri.partition("/")
        found.setdefault(uri, lake.root / kind / f"{PARTIAL}{digest}")
        sizes[uri] = sizes.get(uri, 0) + size
    return [Unfinished(uri, found[uri], sizes[uri]) for uri in sorted(found)]


def artifact_size(artifact: Artifact) -> int:
    """Bytes of its files, the marker apart."""
    if artifact.sizes.keys() == artifact.files.keys():
        return sum(artifact.sizes.values())
    return sum(path.stat().st_size for path in map(artifact.path.joinpath, artifact.files) if path.exists())


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder))


@contextlib.contextmanager
def nothing_running(lake: Lake) -> Iterator[None]:
    """Keep every materialisation waiting; raises AutomixerError where one is at work."""
    with lake.alone():
        yield
        lake.sweep()


def discard(lake: Lake, uri: str, folder: Path, why: str | None = None) -> None:
    """Move a folder of the lake into the trash; `why` is left behind as a note, half a sentence long."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    note = None if why is None else f"was removed by `automixer gc` on {today}, {why}\n".encode()
    lake.withdraw(uri, note)
    if not folder.exists():
        return
    trash = lake.root / TRASH
    trash.mkdir(exist_ok=True)
    target = trash / f"{folder.parent.name}-{folder.name}"
    shutil.rmtree(target, ignore_errors=True)
    folder.rename(target)
    sync_folder(folder.parent)


def empty_trash(lake: Lake) -> int:
    """Delete what was discarded, by this process or by one that was killed; returns its bytes."""
    trash = lake.root / TRASH
    size = folder_size(trash)
    shutil.rmtree(trash, ignore_errors=True)
    return size


def trash_size(lake: Lake) -> int:
    """Bytes of what was discarded and not deleted yet."""
    return folder_size(lake.root / TRASH) + lake.withdrawn_size()
