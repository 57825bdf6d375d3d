"""Uncertainty through the assets: one world, its weights resampled over documents, items and selections."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from automixer_assets.checks import check_contributions
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.item_uncertainty import density_shifts, read_contributions
from automixer_assets.mixture.manifest import Manifest, load_manifest
from automixer_assets.pages.mixture import show_selected_checkpoints
from automixer_assets.pages.uncertainty import runners_up, show_weight_uncertainty
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets_tests.command import Place
from automixer_assets_tests.world import World

ITEMS: dict[str, Any] = {"mixtures.demo.uncertainty": "documents_and_items"}
COLUMNS = {
    "contributions.parquet": ["checkpoint", "task", "item", "group__*", "half__*", "centre", "scale"],
    "checkpoints.parquet": ["checkpoint", "alpha", "centre", "scale"],
    "densities.parquet": [
        "group", "checkpoint", "density", "n_sampled", "n_documents", "first_half_share", "scored_utility",
        "carried_utility", "magnitude",
    ],
}  # fmt: skip


def manifest_of(world: World) -> Manifest:
    return load_manifest(world.path("weight_manifest", "demo") / "manifest.json")


def intervals_of(world: World) -> dict[str, list[tuple[float, float]]]:
    """Part -> (low, high) by group."""
    table = world.table("weight_uncertainty", "demo", "intervals.parquet")
    return {
        str(part): rows.select("low", "high").rows()
        for (part,), rows in table.group_by("resampled", maintain_order=True)
    }


def test_items_are_resampled_only_where_a_mixture_asks_and_nothing_else_is_made_again(world: World) -> None:
    documents = [group.weight_interval for group in manifest_of(world).groups]
    assert set(intervals_of(world)) == {"documents", "selection"}
    assert intervals_of(world)["documents"] == documents
    before = {key: world.latest("grouped_shards", key).pin for key in ("demo", "uniform")}

    ran = world.run("+weight_uncertainty", "demo", overrides=ITEMS)
    assert ran == ["item_contributions[demo]", "weight_manifest[demo]", "weight_uncertainty[demo]"]
    assert {key: world.latest("grouped_shards", key).pin for key in before} == before

    found = intervals_of(world)
    assert list(found) == ["documents", "items", "documents and items", "selection"]
    assert found["documents"] == documents
    assert found["documents and items"] == [group.weight_interval for group in manifest_of(world).groups]
    for items, both in zip(found["items"], found["documents and items"], strict=True):
        assert 0 < items[1] - items[0] < both[1] - both[0]
    assert world.run("+weight_uncertainty", "demo", overrides=ITEMS) == []
    assert manifest_of(world).options["mixture.uncertainty"] == "documents_and_items"
    _contributions_add_up(world)
    _cli_says_it(world)


def _contributions_add_up(world: World) -> None:
    """Two passes over different texts: documents against tasks, and items against documents."""
    folder = world.path("item_contributions", "demo")
    for name, columns in COLUMNS.items():
        found = {column.partition("__")[0] for column in pl.read_parquet_schema(folder / name)}
        assert found == {column.partition("__")[0] for column in columns}, name
    densities = pl.read_parquet(folder / "densities.parquet")
    gap = (densities["carried_utility"] - densities["scored_utility"]).abs() / densities["magnitude"]
    assert float(gap.max()) < 1e-5  # pyright: ignore[reportArgumentType]
    contributions = read_contributions(folder)
    blended = sum(each.alpha * each.densities for each in contributions.checkpoints)
    assert np.asarray(blended) == pytest.approx([group.density for group in manifest_of(world).groups], rel=1e-9)
    halves = [density_shifts(read_contributions(folder, half), 50) for half in (0, 1)]
    assert (halves[0] != halves[1]).any()
    assert np.abs(density_shifts(contributions, 50)).max() <= np.abs(halves).max()
    assert check_contributions(world.artifact("item_contributions", "demo")).passed


def _cli_says_it(world: World) -> None:
    (world.folder / "home").mkdir()
    shutil.copy(PROJECT_ROOT / "dagster.yaml", world.folder / "home")
    place = Place(world.folder)
    answered = place.run("mixture", "show", "demo", "--uncertainty", "--json")
    assert (answered.code, answered.stderr) == (0, "")
    document = json.loads(answered.stdout)
    assert list(document) == ["mixture", "digest", "intervals", "unscored", "winners", "redrawn", "notes"]
    assert document["intervals"] == world.table("weight_uncertainty", "demo", "intervals.parquet").to_dicts()
    printed = place.run("mixture", "show", "demo", "--uncertainty").stdout
    assert all(word in printed for word in ("documents and items", "selection", "runner-up", *world.checkpoints()))
    both = place.run("mixture", "show", "demo", "--uncertainty", "--why")
    assert (both.code, both.sentence) == (2, "--why and --uncertainty answer two questions: ask one at a time")
    world.run("weight_manifest", "demo", overrides={**ITEMS, "mixtures.demo.token_budget": 9999})
    refused = place.run("mixture", "show", "demo", "--uncertainty")
    assert (refused.code, refused.stdout) == (2, "")
    assert "run `automixer materialize +weight_uncertainty --partition demo`" in refused.sentence


def test_the_page_shows_parts_and_how_often_another_checkpoint_would_have_won(finished: World) -> None:
    page = show_weight_uncertainty(finished.artifact("weight_uncertainty", "demo"))
    assert {"weights: 95 % intervals by what is drawn again", "weights and their intervals", "notes"} <= set(page)
    selected = finished.artifact("selected_checkpoints", "demo")
    assert "how often would another checkpoint have won, had other items been drawn" in show_selected_checkpoints(
        selected
    )
    others = runners_up(pl.read_parquet(selected.path / "winners.parquet"))
    sure = dict(
        finished.table("selected_checkpoints", "demo", "assignments.parquet")
        .select("task", "selection_probability")
        .iter_rows()
    )
    assert dict(others.select("task", "probability").iter_rows()) == sure
    assert others["another would have won"].to_list() == pytest.approx([1 - sure[task] for task in others["task"]])


def test_a_uniform_mixture_has_no_items_to_resample(world: World) -> None:
    overrides = {"mixtures.uniform.uncertainty": "documents_and_items"}
    assert world.run("+weight_uncertainty", "uniform", overrides=overrides) == [
        "weight_manifest[uniform]",
        "weight_uncertainty[uniform]",
    ]


def test_ranks_are_refused_by_name(world: World) -> None:
    overrides = {**ITEMS, "recipes.demo.normalisation": "rank"}
    with pytest.raises(AutomixerError, match="under `normalisation: rank`: set `uncertainty: documents`"):
        world.run("+weight_manifest", "demo", overrides=overrides)


def test_contributions_that_do_not_add_up_fail_the_check(finished: World, tmp_path) -> None:
    table = {"carried_utility": [1.0, 2.0], "scored_utility": [1.0, 2.5], "magnitude": [1.0, 2.0]}
    pl.DataFrame(table).write_parquet(tmp_path / "densities.parquet")
    artifact = finished.artifact("weight_manifest", "demo")
    wrong = replace(artifact, folder=tmp_path)
    assert not check_contributions(wrong).passed
    pl.DataFrame({**table, "scored_utility": [1.0, 2.001]}).write_parquet(tmp_path / "densities.parquet")
    assert check_contributions(wrong).passed
