"""The checkpoint partitions of a proxy: the union of what its live recipes selected, nothing retired.

Retired keys would be scored on every new snapshot and, once the proxy no longer keeps them, fail every run.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
import polars as pl

from automixer_assets.lake import Artifact, Lake
from automixer_assets.lineage import latest
from automixer_assets.partitions import checkpoints_of, register
from automixer_assets.settings import Settings


def sync_checkpoint_keys(
    instance: dg.DagsterInstance,
    lake: Lake,
    settings: Settings,
    proxy: str,
    fresh: Mapping[str, Artifact] | None = None,
) -> None:
    """Add selected keys and delete retired ones; what was materialised under a retired key stays in the lake.

    `fresh` holds selections by recipe whose materialisation is not in the event log yet.
    """
    wanted: set[str] = set()
    for name, recipe in settings.recipes_of(proxy).items():
        artifact = (fresh or {}).get(name) or (_selection(instance, lake, name) if recipe.uses_checkpoints else None)
        if artifact is not None:
            wanted.update(pl.read_parquet(artifact.file("selected.parquet"))["checkpoint"])
    definition = checkpoints_of(proxy)
    name = definition.name
    assert name is not None
    register(instance, definition, sorted(wanted))
    for key in sorted(set(instance.get_dynamic_partitions(name)) - wanted):
        instance.delete_dynamic_partition(name, key)


def _selection(instance: dg.DagsterInstance, lake: Lake, recipe: str) -> Artifact | None:
    found = latest(instance, "selected_checkpoints", recipe)
    return lake.find_uri(found.pin.uri) if found is not None else None
