"""The lineage of a mixture: every materialisation that it was made from, down to the source files.

Walked along pins through events and artefacts, neither of which ever changes: whatever is materialised later, the
lineage of a version comes out the same, byte for byte. docs/lineage.md describes the JSON.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import polars as pl

from automixer_assets.catalogue import find_version
from automixer_assets.events import Event, ancestors, events_of
from automixer_assets.lake import Artifact, Lake
from automixer_assets.proxy.checkpoints import parse_checkpoint_key

SCHEMA_VERSION = 1
MIXTURE = "weight_manifest"
UNKNOWN = "(folder not recorded)"
"""Stands for the snapshots' folder in materialisations older than that record."""


@dataclass(frozen=True)
class Source:
    """A file or folder outside the lake, as it was when it was read. `path` is as the settings give it.

    A folder's digest is over the names and contents of its files (`lake.folder_digest`).
    """

    kind: Literal["file", "folder"]
    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True)
class Node:
    """One materialisation with what the lake says of it; `artifact` is None where its folder is gone."""

    event: Event
    artifact: Artifact | None
    sources: tuple[Source, ...]

    @property
    def name(self) -> str:
        return self.event.name

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(sorted({pin.storage_id for pin in self.event.pins}))

    @property
    def made(self) -> str:
        """ISO 8601, UTC."""
        return datetime.datetime.fromtimestamp(self.event.timestamp, datetime.UTC).isoformat(timespec="milliseconds")

    @property
    def training_step(self) -> dict[str, Any] | None:
        """The proxy and the step of its run, for assets of one checkpoint."""
        proxy, _, kind = self.event.asset.rpartition("/")
        if kind not in ("proxy_checkpoints", "influence_query", "checkpoint_influence") or not self.event.partition:
            return None
        return {"proxy": proxy, "step": parse_checkpoint_key(self.event.partition.split("|")[0])[1]}


@dataclass(frozen=True)
class Lineage:
    """Nodes by storage id, what is read after what reads it; the first is the mixture's own."""

    reference: str
    nodes: dict[int, Node]

    @property
    def root(self) -> Node:
        return next(iter(self.nodes.values()))

    @property
    def sources(self) -> list[Source]:
        """Every source file once, by path."""
        found = {(source.path, source.sha256): source for node in self.nodes.values() for source in node.sources}
        return [found[key] for key in sorted(found)]


def mixture_lineage(instance: dg.DagsterInstance, lake: Lake, name: str) -> Lineage:
    """The lineage of `NAME` (its latest version) or `NAME@digest`.

    A version that was recorded several times has the lineage of its first materialisation, which never changes.

    Raises:
        ConfigurationError: no such mixture or digest.
        AutomixerError: the event log has lost a pinned materialisation.
    """
    version = find_version(instance, name)
    first = min(
        (event for event in events_of(instance, MIXTURE, version.mixture) if event.sha256 == version.digest),
        key=lambda event: event.storage_id,
    )
    return Lineage(f"{version.mixture}@{version.digest}", walk(instance, lake, first))


def walk(instance: dg.DagsterInstance, lake: Lake, start: Event) -> dict[int, Node]:
    """`start` and everything that it was made from; whatever is read stands after all that read it."""
    events = {start.storage_id: start, **ancestors(instance, start.pins)}
    ordered = sorted(events.values(), key=lambda event: (-event.storage_id, event.name))  # made after what it read
    return {event.storage_id: _node(lake, event) for event in ordered}


def lineage_json(lineage: Lineage) -> dict[str, Any]:
    """The documented form: see docs/lineage.md."""
    return {
        "schema_version": SCHEMA_VERSION,
        "mixture": lineage.reference,
        "root": lineage.root.event.storage_id,
        "materialisations": [_node_json(node) for node in lineage.nodes.values()],
        "sources": [_source_json(source) for source in lineage.sources],
    }


def _node(lake: Lake, event: Event) -> Node:
    artifact = lake.find_uri(event.uri)
    return Node(event, artifact, tuple(_sources(event, artifact)))


def _sources(event: Event, artifact: Artifact | None) -> Iterator[Source]:
    """What the asset read that is no artefact; where only digests count, they are in its slice of the settings."""
    settings, made_with = event.settings or {}, event.settings_slice
    if event.asset == "snapshot_inventory":
        yield from _inventoried(settings.get("corpus.directory", UNKNOWN), str(event.partition), artifact)
    elif event.asset == "tokenizer" and isinstance(made_with, str) and settings.get("tokenizer", {}).get("path"):
        yield Source("folder", settings["tokenizer"]["path"], made_with)
    elif event.asset == "removed_documents" and "corpus.removal_list" in settings:
        yield Source("file", settings["corpus.removal_list"], made_with[0])
    elif event.asset in ("validation_items", "scored_items") and "tasks" in settings:
        places = settings["tasks"]["directory"], settings["tasks"]["data"].get("directory")
        for place, digest in zip(places, made_with[0][1:], strict=True):
            if place is not None and digest is not None:
                yield Source("folder", place, digest)


def _inventoried(directory: str, snapshot: str, artifact: Artifact | None) -> Iterator[Source]:
    files = None if artifact is None else artifact.file("files.parquet")
    if files is not None and files.exists():
        for name, sha256, size in pl.read_parquet(files).select("file", "sha256", "bytes").iter_rows():
            yield Source("file", f"{directory.rstrip('/')}/{snapshot}/{name}", sha256, size)  # may be a URL


def _node_json(node: Node) -> dict[str, Any]:
    event, artifact = node.event, node.artifact
    return {
        "id": event.storage_id,
        "asset": event.asset,
        "partition": event.partition,
        "made": node.made,
        "run_id": event.run_id,
        "code_version": event.code_version,
        "program": event.program,
        "settings": event.settings,
        "settings_slice": event.settings_slice,
        "training_step": node.training_step,
        "uri": event.uri,
        "sha256": event.sha256,
        "files": None if artifact is None else _files_json(artifact),
        "reads": list(node.inputs),
        "sources": [_source_json(source) for source in node.sources],
    }


def _files_json(artifact: Artifact) -> list[dict[str, Any]]:
    return [
        {"name": name, "sha256": sha256, "bytes": file_size(artifact, name)}
        for name, sha256 in sorted(artifact.files.items())
    ]


def file_size(artifact: Artifact, name: str) -> int | None:
    """Bytes as published; of folders older than that record, as found; None where the file is gone as well."""
    if size := artifact.sizes.get(name):
        return size
    path = artifact.file(name)
    return path.stat().st_size if path.exists() else None


def _source_json(source: Source) -> dict[str, Any]:
    return {"kind": source.kind, "path": source.path, "sha256": source.sha256, "bytes": source.size}
