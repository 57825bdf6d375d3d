"""Taking artefacts out of an object store; this alone asks it what it holds.

The note says that an artefact goes, then its marker goes, then its files: a kill at any moment leaves an artefact or
objects without a marker, which nobody sees and the next removal sweeps. Holds `Lake.alone`, so no writer is at work.
"""

from __future__ import annotations

from collections.abc import Iterator

from automixer_assets.lake import MARKER, Artifact
from automixer_assets.object_store import StoredObject
from automixer_assets.remote_lake import RemoteLake, removal_key


def artifacts(lake: RemoteLake) -> Iterator[Artifact]:
    """Everything that is published, by kind and digest."""
    for uri, objects in _by_uri(lake).items():
        artifact = lake.find_uri(uri) if _is_published(uri, objects) else None
        if artifact is not None:
            yield artifact


def leftovers(lake: RemoteLake) -> dict[str, int]:
    """uri -> bytes of what killed uploads left: objects without a marker, of artefacts that nobody removed."""
    return {
        uri: sum(each.size for each in objects)
        for uri, objects in _by_uri(lake).items()
        if not _is_published(uri, objects) and lake.removal_note(uri) is None
    }


def removed_size(lake: RemoteLake) -> int:
    """Bytes of what an interrupted removal left."""
    return sum(each.size for objects in _removed(lake).values() for each in objects)


def discard(lake: RemoteLake, uri: str, note: bytes | None) -> None:
    """Delete an artefact, or what there is of it; `note` stays in its place."""
    if note is not None:
        lake.store.delete(removal_key(uri))
        lake.store.create(removal_key(uri), note)
    lake.store.delete(f"{uri}/{MARKER}")
    for each in list(lake.store.list_below(uri)):
        lake.store.delete(each.key)


def sweep(lake: RemoteLake) -> None:
    """Delete what an interrupted removal left."""
    for objects in _removed(lake).values():
        for each in objects:
            lake.store.delete(each.key)


def _removed(lake: RemoteLake) -> dict[str, list[StoredObject]]:
    return {
        uri: objects
        for uri, objects in _by_uri(lake).items()
        if not _is_published(uri, objects) and lake.removal_note(uri) is not None
    }


def _by_uri(lake: RemoteLake) -> dict[str, list[StoredObject]]:
    """Objects by the artefact that they are of; notes and users are of none."""
    found: dict[str, list[StoredObject]] = {}
    for each in lake.store.list_below(""):
        kind, _, rest = each.key.partition("/")
        digest, _, name = rest.partition("/")
        if name and not kind.startswith(".") and not digest.startswith("."):
            found.setdefault(f"{kind}/{digest}", []).append(each)
    return found


def _is_published(uri: str, objects: list[StoredObject]) -> bool:
    return f"{uri}/{MARKER}" in {each.key for each in objects}
