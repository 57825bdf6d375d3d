"""Claims about partition keys: what a key may be, and that registering twice or renaming loses nothing."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.errors import ConfigurationError
from automixer_assets.partitions import (
    MIXTURES,
    RECIPE_BY_SNAPSHOT,
    RECIPES,
    SNAPSHOTS,
    checkpoint_by_snapshot,
    checkpoints_of,
    multi_key,
    register,
    register_settings_keys,
    require_valid_key,
)
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets.settings_file import load_settings

BAD_KEYS = ["", " ", "a b", "a/b", "../x", "x|y", ".", "..", "a\n", "a,b", "ä", "a\x00", "a:b", "[a]"]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_plain_name_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not allowed: use letters, digits, '\.', '_' and '-' only"):
        require_valid_key(key)


@given(st.from_regex(r"[._-]{0,3}[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True))
def test_plain_names_are_allowed(key: str) -> None:
    require_valid_key(key)


def test_one_bad_key_registers_none(instance: dg.DagsterInstance) -> None:
    with pytest.raises(ConfigurationError, match=r"'x\|y'"):
        register(instance, SNAPSHOTS, ["good", "x|y"])
    assert instance.get_dynamic_partitions("snapshot") == []


def test_registering_twice_changes_nothing(instance: dg.DagsterInstance) -> None:
    register(instance, SNAPSHOTS, ["b", "a"])
    register(instance, SNAPSHOTS, ["a", "c", "b"])
    assert sorted(instance.get_dynamic_partitions("snapshot")) == ["a", "b", "c"]


def test_settings_name_recipes_and_mixtures_and_retired_keys_stay(instance: dg.DagsterInstance) -> None:
    settings = load_settings(PROJECT_ROOT / "configs" / "demo.yaml")
    register(instance, MIXTURES, ["retired"])
    register_settings_keys(instance, settings)
    assert set(instance.get_dynamic_partitions("recipe")) == set(settings.recipes)
    assert set(instance.get_dynamic_partitions("mixture")) == {*settings.mixtures, "retired"}
    assert instance.get_dynamic_partitions("snapshot") == []


def test_checkpoints_of_two_proxies_are_apart(instance: dg.DagsterInstance) -> None:
    register(instance, checkpoints_of("small"), ["small-step-000001"])
    assert instance.get_dynamic_partitions("checkpoint_small") == ["small-step-000001"]
    assert instance.get_dynamic_partitions("checkpoint_large") == []


def test_a_two_dimensional_key_is_dagsters(instance: dg.DagsterInstance) -> None:
    register(instance, SNAPSHOTS, ["2026-01"])
    register(instance, RECIPES, ["demo"])
    register(instance, checkpoints_of("p"), ["p-step-000010"])
    by_recipe = RECIPE_BY_SNAPSHOT.get_partition_keys(dynamic_partitions_store=instance)
    assert by_recipe == [multi_key(snapshot="2026-01", recipe="demo")] == ["demo|2026-01"]
    by_checkpoint = checkpoint_by_snapshot("p").get_partition_keys(dynamic_partitions_store=instance)
    assert by_checkpoint == [multi_key(snapshot="2026-01", checkpoint="p-step-000010")]
