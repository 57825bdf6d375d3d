"""Which mixtures contain documents that the removal list names by now: from the events, the lake and the list alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from automixer_assets.catalogue import versions
from automixer_assets.corpus.removal import DOCUMENT_COLUMNS, match_documents, read_removal_list
from automixer_assets.errors import ConfigurationError
from automixer_assets.lake import Lake
from automixer_assets.lineage import latest
from automixer_assets.mixture.manifest import Manifest, load_manifest
from automixer_assets.resources import Automixer

FIRST_IDS = 5


@dataclass(frozen=True)
class TouchedMixture:
    """A mixture that holds removed documents; a document counts once, in `groups` once per group."""

    mixture: str
    digest: str
    n_documents: int
    groups: dict[str, int]
    first_ids: list[str]


@dataclass(frozen=True)
class RemovalReport:
    """What the removal list means for what exists."""

    removal_list: str
    n_entries: int
    unmatched: list[str]
    checked: list[str]
    mixtures: list[TouchedMixture]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def report_removals(instance: dg.DagsterInstance, automixer: Automixer) -> RemovalReport:
    """Compare the removal list with the latest version of every mixture, and with all snapshots that were inventoried.

    Raises:
        ConfigurationError: the settings name no removal list.
        AutomixerError: the list cannot be read, or what a mixture was made from is gone from the lake.
    """
    corpus = automixer.settings().corpus
    if corpus.removal_list is None:
        raise ConfigurationError("the settings name no removal list: set corpus.removal_list")
    path, lake = automixer.resolve(corpus.removal_list), automixer.lake()
    entries = read_removal_list(path, corpus.removal_kind)
    manifests = list(_latest_manifests(instance, lake))
    touched = [_touched(manifest, lake, entries) for manifest in manifests]
    return RemovalReport(
        removal_list=str(path),
        n_entries=entries.height,
        unmatched=_unmatched(instance, lake, entries),
        checked=[manifest.reference for manifest in manifests],
        mixtures=[each for each in touched if each.n_documents],
    )


def _latest_manifests(instance: dg.DagsterInstance, lake: Lake) -> Iterator[Manifest]:
    seen: set[str] = set()
    for version in versions(instance):
        if version.mixture not in seen:
            seen.add(version.mixture)
            yield load_manifest(lake.open(version.uri).path / "manifest.json")


def _touched(manifest: Manifest, lake: Lake, entries: pl.DataFrame) -> TouchedMixture:
    corpora = {
        pin.partition: lake.open(pin.uri).path for pin in manifest.pins if pin.asset == "tokenized_corpus" and pin.uri
    }
    named = {
        (snapshot, path.stem): _matches(path, entries)
        for snapshot, folder in corpora.items()
        for path in sorted(folder.glob("shard-*.parquet"))
    }
    root = lake.root_with(manifest.selection_uris)
    groups: dict[str, int] = {}
    found: dict[tuple[str, str, int], str] = {}
    for group in manifest.groups:
        for shard in group.shards:
            rows = named[shard.snapshot, shard.shard]
            kept = rows.join(pl.read_parquet(root / shard.uri, columns=["row"]), on="row", how="semi")
            groups[group.name] = groups.get(group.name, 0) + kept.height
            found |= {(shard.snapshot, shard.shard, row): doc_id for row, doc_id in kept.iter_rows()}
    first_ids = [doc_id for _, doc_id in sorted(found.items())][:FIRST_IDS]
    return TouchedMixture(manifest.mixture, manifest.digest, len(found), groups, first_ids)


def _matches(documents: Path, entries: pl.DataFrame) -> pl.DataFrame:
    shard = pl.read_parquet(documents, columns=list(DOCUMENT_COLUMNS.values()))
    return match_documents(shard, entries).select("row", "doc_id").unique()


def _unmatched(instance: dg.DagsterInstance, lake: Lake, entries: pl.DataFrame) -> list[str]:
    """Entries that name no document of any registered snapshot."""
    left = entries
    for snapshot in sorted(instance.get_dynamic_partitions("snapshot")):
        found = latest(instance, "snapshot_inventory", snapshot)
        if found is None:
            continue
        for path in sorted((lake.open(found.pin.uri).path / "documents").glob("shard-*.parquet")):
            shard = pl.read_parquet(path, columns=list(DOCUMENT_COLUMNS.values()))
            left = left.join(match_documents(shard, left), on=["kind", "entry"], how="anti")
    return sorted(left["entry"])
