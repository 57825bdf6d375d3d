"""Whatever setting changes an artefact's digest is recorded by name with its value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from automixer_assets.assets import all_assets
from automixer_assets.errors import AutomixerError
from automixer_assets.lake_asset import LakeAsset, Scope, by_name
from automixer_assets.resources import Automixer
from automixer_assets.settings import Settings
from automixer_assets.settings_file import load_document, parse_settings
from automixer_assets.settings_in_force import settings_in_force
from automixer_assets_tests.world import World

WORDS = ("answer", "identity", "all", "uniform", "z", "gold_nll", "acc", "none", "last", "appendix_b", "softmax")
WORDS += ("exclude", "keep", "gradient", "id", "even", "early_dense", "constant", "as_listed", "validation", "bfloat16")


def leaves(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(document, dict):
        for key, value in document.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, document


def others(value: Any) -> list[Any]:
    """Values that may be allowed in the place of `value`."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value / 2]
    if isinstance(value, list):
        return [value[:-1]]
    return [word for word in WORDS if word != value]


def changed(document: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    first, *rest = path
    return {**document, first: changed(document[first], tuple(rest), value) if rest else value}


def possible_changes(document: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Another allowed value of every option that has one."""
    found: dict[tuple[str, ...], Any] = {}
    for path, value in leaves(document):
        for other in others(value):
            if parsed(changed(document, path, other)) is not None:
                found[path] = other
                break
    return found


def parsed(document: dict[str, Any]) -> Settings | None:
    try:
        return parse_settings(document)
    except AutomixerError:
        return None


def digest(world: World, item: LakeAsset, partition: str | None, document: dict[str, Any]) -> str | None:
    """What the asset would be made under; None where it refuses its inputs."""
    scope = Scope(item.asset, item.code, partition, Automixer(document=document), world.instance, lambda line: None)
    try:
        return item.plan(scope).digest
    except AutomixerError:
        return None


def made_partitions(world: World, item: LakeAsset) -> Sequence[str | None]:
    """A partition that was made, if any: of recipes and mixtures that of `demo`, whose settings change."""
    if item.partitions_def is None:
        return [None]
    made = sorted(world.instance.get_materialized_partitions(item.definition.key))
    return [*(key for key in made if key.startswith("demo")), *made][:1]


def counting(
    world: World, item: LakeAsset, partition: str | None, document: dict[str, Any], changes: dict[tuple[str, ...], Any]
) -> list[str]:
    """Which of the changes give the asset another digest: asked of all together, and one by one only if need be."""
    before, together = digest(world, item, partition, document), document
    assert before is not None, item.asset
    for path, value in changes.items():
        together = changed(together, path, value)
    if parsed(together) is not None and digest(world, item, partition, together) == before:
        return []
    alone = {path: digest(world, item, partition, changed(document, path, value)) for path, value in changes.items()}
    return [".".join(path) for path, after in alone.items() if after not in (None, before)]


@pytest.mark.slow
def test_a_setting_that_counts_is_recorded_by_name(finished: World):
    with finished.active():
        document = parse_settings(load_document(finished.config)).model_dump(mode="json")
        changes = possible_changes(document)
        settings = {path: parse_settings(changed(document, path, value)) for path, value in changes.items()}
        for item in all_assets(parse_settings(document)):
            for partition in made_partitions(finished, item):
                recorded = settings_in_force(item.asset, partition, parse_settings(document))
                unsaid = {
                    path: value
                    for path, value in changes.items()
                    if settings_in_force(item.asset, partition, settings[path]) == recorded
                }
                assert counting(finished, item, partition, document, unsaid) == [], f"{item.asset} hides settings"


@pytest.mark.parametrize(
    ("asset", "partition", "option"),
    [
        ("grouped_shards", "demo", "mixtures.demo.top_share"),
        ("selected_checkpoints", "demo", "recipes.demo.alpha"),
        ("validation_items", None, "tasks.gradient_items"),
        ("reference_sample", None, "seed"),
    ],
)
def test_an_option_that_counts_is_found_by_its_change(finished: World, asset: str, partition: str | None, option: str):
    with finished.active():
        document = parse_settings(load_document(finished.config)).model_dump(mode="json")
        path = tuple(option.split("."))
        changes = {path: possible_changes(document)[path]}
        item = by_name(all_assets(parse_settings(document)))[asset]
        assert counting(finished, item, partition, document, changes) == [option]


def test_values_stand_under_the_names_of_the_settings_file(finished: World):
    with finished.active():
        settings = Automixer().settings()
    found = settings_in_force("grouped_shards", "demo", settings)
    assert found["mixtures.demo"]["top_share"] == 0.5
    assert found["recipes.demo"]["early_checkpoint"] is True
    assert settings_in_force("demo/proxy_run", None, settings)["proxies.demo"]["seed"] == 0
    assert settings_in_force("something_else", None, settings) == {}
