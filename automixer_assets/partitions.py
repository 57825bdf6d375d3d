"""Partitions: what comes and goes. Snapshots, checkpoints, recipes and mixtures; shards are files, never partitions.

Keys are dynamic, so what was made under a retired key stays visible. `register_settings_keys` adds what the settings
name; snapshots are added when they arrive, checkpoints by `selected_checkpoints`.
"""

from __future__ import annotations

import re

import dagster as dg

from automixer_assets.errors import ConfigurationError
from automixer_assets.settings import KEY_PATTERN, Settings

SNAPSHOTS = dg.DynamicPartitionsDefinition(name="snapshot")
RECIPES = dg.DynamicPartitionsDefinition(name="recipe")
MIXTURES = dg.DynamicPartitionsDefinition(name="mixture")
RECIPE_BY_SNAPSHOT = dg.MultiPartitionsDefinition({"recipe": RECIPES, "snapshot": SNAPSHOTS})


def checkpoints_of(proxy: str) -> dg.DynamicPartitionsDefinition:
    """The selected checkpoints of one proxy: the union over live recipes."""
    return dg.DynamicPartitionsDefinition(name=f"checkpoint_{proxy}")


def checkpoint_by_snapshot(proxy: str) -> dg.MultiPartitionsDefinition:
    return dg.MultiPartitionsDefinition({"checkpoint": checkpoints_of(proxy), "snapshot": SNAPSHOTS})


def multi_key(**dimensions: str) -> str:
    """Dagster's key of a multi-partition: values joined by `|` in alphabetical order of dimension."""
    return "|".join(dimensions[name] for name in sorted(dimensions))


def require_valid_key(key: str) -> None:
    """Raise ConfigurationError for a key that is no plain name: it becomes part of paths, columns, partition keys."""
    if not re.fullmatch(KEY_PATTERN.strip("^$"), key):  # `$` would let a final newline pass
        raise ConfigurationError(
            f"key {key!r} is not allowed: use letters, digits, '.', '_' and '-' only (rename the folder or the setting)"
        )


def register(instance: dg.DagsterInstance, definition: dg.DynamicPartitionsDefinition, keys: list[str]) -> None:
    """Add keys that are valid and new. Dagster itself accepts any string, and loses some of them later."""
    name = definition.name
    assert name is not None
    for key in keys:
        require_valid_key(key)
    new = [key for key in keys if not instance.has_dynamic_partition(name, key)]
    if new:
        instance.add_dynamic_partitions(name, new)


def register_settings_keys(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Make the recipes and mixtures of the settings known to the UI."""
    register(instance, RECIPES, list(settings.recipes))
    register(instance, MIXTURES, list(settings.mixtures))
