"""Taking artefacts out of an object store; this alone asks it what it holds.

The note says that an artefact goes, then its marker goes, then its files: a kill at any moment leaves an artefact or
objects without a marker, which nobody sees and the next removal sweeps. Holds `Lake.alone`, so no writer is at work.
"""

from __future__ import annotations

from collections.abc import Iterator

from automixer_assets.lake import MARKER, Artifact, Lake
from automixer_assets.object_store import ObjectStore, StoredObject


def artifacts(lake: Lake, store: ObjectStore) -> Iterator[Artifact]:
    """Everything that is published, by kind and digest."""
    for uri, objects in _by_uri(store).items():
        artifact = lake.find_uri(uri) if _is_published(uri, objects) else None
        if artifact is not None:
            yield artifact


def leftovers(lake: Lake, store: ObjectStore) -> dict[str, int]:
    """uri -> bytes of what killed uploads left: objects without a marker, of artefacts that nobody removed."""
    return {
        uri: sum(each.size for each in objects)
        for uri, objects in _by_uri(store).items()
        if not _is_published(uri, objects) and lake.removal_note(uri) is None
    }


def withdrawn_size(lake: Lake, store: ObjectStore) -> int:
    """Bytes of what an interrupted removal left."""
    return sum(each.size for objects in _withdrawn(lake, store).values() for each in objects)


def withdraw(store: ObjectStore, uri: str, note: bytes | None) -> None:
    """Delete an artefact, or what there is of it; `note` stays in its place."""
    if note is not None:
        store.delete(removal_key(uri))
        store.create(removal_key(uri), note)
    store.delete(f"{uri}/{MARKER}")
    for each in list(store.list_below(uri)):
        store.delete(each.key)


def sweep(lake: Lake, store: ObjectStore) -> None:
    """Delete what an interrupted removal left."""
    for objects in _withdrawn(lake, store).values():
        for each in objects:
            store.delete(each.key)


def _withdrawn(lake: Lake, store: ObjectStore) -> dict[str, list[StoredObject]]:
    return {
        uri: objects
        for uri, objects in _by_uri(store).items()
        if not _is_published(uri, objects) and lake.removal_note(uri) is not None
    }


def _by_uri(store: ObjectStore) -> dict[str, list[StoredObject]]:
    """Objects by the artefact that they are of; notes and users are of none."""
    found: dict[str, list[StoredObject]] = {}
    for each in store.list_below(""):
        kind, _, rest = each.key.partition("/")
        digest, _, name = rest.partition("/")
        if name and not kind.startswith(".") and not digest.startswith("."):
            found.setdefault(f"{kind}/{digest}", []).append(each)
    return found


def _is_published(uri: str, objects: list[StoredObject]) -> bool:
    return f"{uri}/{MARKER}" in {each.key for each in objects}


def removal_key(uri: str) -> str:
    """The object of `Lake.removal_note`."""
    kind, _, digest = uri.partition("/")
    return f"{kind}/.removed-{digest}"
