"""Whatever setting changes an artefact's digest is recorded by name with its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from automixer_assets.assets import all_assets
from automixer_assets.errors import AutomixerError
from automixer_assets.lake_asset import LakeAsset, Scope
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


def one_change_each(document: dict[str, Any]) -> Iterator[tuple[str, Settings, dict[str, Any]]]:
    for path, value in leaves(document):
        for other in others(value):
            new = changed(document, path, other)
            try:
                yield ".".join(path), parse_settings(new), new
            except AutomixerError:
                continue
            break


def digest(world: World, item: LakeAsset, partition: str | None, document: dict[str, Any]) -> str | None:
    """What the asset would be made under; None where it refuses its inputs."""
    scope = Scope(item.asset, item.code, partition, Automixer(document=document), world.instance, lambda line: None)
    try:
        return item.plan(scope).digest
    except AutomixerError:
        return None


def made_partitions(world: World, item: LakeAsset) -> list[str | None]:
    """A partition that was made, if any: of recipes and mixtures that of `demo`, whose settings change."""
    if item.partitions_def is None:
        return [None]
    made = sorted(world.instance.get_materialized_partitions(item.definition.key))
    return [*(key for key in made if key.startswith("demo")), *made][:1]


def test_a_setting_that_counts_is_recorded_by_name(finished: World):
    with finished.active():
        document = parse_settings(load_document(finished.config)).model_dump(mode="json")
        settings = parse_settings(document)
        assets = all_assets(settings)
        counted: set[str] = set()
        for item in assets:
            for partition in made_partitions(finished, item):
                before = digest(finished, item, partition, document)
                recorded = settings_in_force(item.asset, partition, settings)
                assert before is not None, item.asset
                for path, other, new in one_change_each(document):
                    if digest(finished, item, partition, new) not in (None, before):
                        counted.add(path)
                        assert settings_in_force(item.asset, partition, other) != recorded, f"{item.asset} hides {path}"
    assert {"mixtures.demo.top_share", "recipes.demo.alpha", "tasks.gradient_items", "seed"} <= counted


def test_values_stand_under_the_names_of_the_settings_file(finished: World):
    with finished.active():
        settings = Automixer().settings()
    found = settings_in_force("grouped_shards", "demo", settings)
    assert found["mixtures.demo"]["top_share"] == 0.5
    assert found["recipes.demo"]["early_checkpoint"] is True
    assert settings_in_force("demo/proxy_run", None, settings)["proxies.demo"]["seed"] == 0
    assert settings_in_force("something_else", None, settings) == {}
