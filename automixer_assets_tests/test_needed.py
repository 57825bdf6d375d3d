"""Claims about what a partition asks for: a mixture needs its own recipe's proxy, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from automixer_assets.lineage import asset_name
from automixer_assets.materialize import Materializer, Outcome
from automixer_assets.needed import needs_of
from automixer_assets.settings_file import parse_settings
from automixer_assets_tests.world import World, create_world, tiny_settings

CORPUS = {"snapshot_inventory", "tokenizer", "tokenized_corpus"}
UNIFORM = {"joint_influence", "grouped_shards", "weight_manifest"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which nothing is made yet."""
    world = create_world(tmp_path_factory.mktemp("fresh") / "world")
    yield world
    world.close()


@pytest.fixture
def asked(fresh: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, where a step is counted as run and does nothing."""
    monkeypatch.setattr(Materializer, "_run_step", lambda self, step, force: Outcome(step.name, True, 0.0))
    return fresh


def kinds(steps: list[str]) -> set[str]:
    return {step.split("[")[0] for step in steps}


def test_a_uniform_mixture_trains_no_proxy(asked: World) -> None:
    steps = asked.run("+weight_manifest", "uniform")
    assert kinds(steps) >= CORPUS | UNIFORM
    assert not [step for step in steps if step.startswith("demo/")]
    assert "selected_checkpoints" not in kinds(steps)
    assert {step for step in steps if step.startswith("joint_influence")} == {
        asset_name("joint_influence", f"uniform|{snapshot}") for snapshot in ("MW-2026-01", "MW-2026-02")
    }


def test_the_recipe_counts_and_not_the_mixtures_name(asked: World) -> None:
    recipes = tiny_settings()["recipes"]
    swapped = {"recipes.uniform": recipes["demo"], "recipes.demo": recipes["uniform"]}
    steps = asked.run("+weight_manifest", "uniform", overrides=swapped | {"mixtures.uniform.recipe": "demo"})
    assert not [step for step in steps if step.startswith("demo/")]
    assert asset_name("joint_influence", "demo|MW-2026-01") in steps


@pytest.mark.parametrize(("mixture", "words"), [("demo", False), ("uniform", True)])
def test_words_are_counted_where_the_mixture_or_its_recipe_does(mixture: str, words: bool) -> None:
    document = tiny_settings()
    document["mixtures"]["uniform"]["filter"] = {"score": "bm25"}
    needs = needs_of(parse_settings(document), mixture, ["weight_manifest"])
    assert needs is not None
    assert needs.cover("lexical_scores", "MW-2026-01") == words


@pytest.mark.parametrize("partition", [None, "MW-2026-01", "elsewhere"])
def test_what_names_no_mixture_or_recipe_leaves_nothing_out(partition: str | None) -> None:
    assert needs_of(parse_settings(tiny_settings()), partition, ["weight_manifest", "joint_influence"]) is None


def test_a_recipe_is_meant_where_nothing_is_made_per_mixture() -> None:
    needs = needs_of(parse_settings(tiny_settings()), "uniform", ["joint_influence"])
    assert needs is not None
    assert (needs.mixtures, needs.recipes, needs.proxies) == (frozenset(), {"uniform"}, frozenset())


def test_a_mixture_that_scores_at_checkpoints_needs_its_proxy() -> None:
    needs = needs_of(parse_settings(tiny_settings()), "demo", ["weight_manifest"])
    assert needs is not None
    assert needs.cover("demo/proxy_run", None)
    assert not needs.cover("other/proxy_run", None)


@pytest.mark.slow
def test_a_uniform_mixture_is_made_on_a_fresh_state(tmp_path: Path) -> None:
    world = create_world(tmp_path / "world")
    try:
        steps = world.run("+weight_manifest", "uniform")
        assert not [step for step in steps if step.startswith("demo/")]
        assert world.run("+weight_manifest", "uniform") == []
    finally:
        world.close()
