"""Selection end to end: tasks clustered by gradient under a limit, and Table 1 beside it."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from automixer_assets_tests.world import World

BY_GRADIENT = {"recipes.demo.task_clustering": "gradient", "recipes.demo.max_checkpoints": 2}


def test_gradients_are_taken_before_anything_is_selected(world: World) -> None:
    ran = world.run("+selected_checkpoints", overrides=BY_GRADIENT)
    assert ran == ["demo/task_gradients", "selected_checkpoints[demo]"]
    cosines = world.table("demo/task_gradients", None, "cosines.parquet")
    tasks = sorted(set(cosines["task"]))
    assert cosines.height == len(tasks) ** 2 == 64
    mirrored = cosines.join(cosines, left_on=["task", "other"], right_on=["other", "task"])
    assert mirrored.select((pl.col("cosine") - pl.col("cosine_right")).abs().max()).item() < 1e-12
    assert cosines.filter(pl.col("task") == pl.col("other"))["cosine"].to_list() == [1.0] * 8
    assert cosines.filter(pl.col("task") != pl.col("other"))["cosine"].is_between(-1, 1).all()
    assert world.table("selected_checkpoints", "demo", "selected.parquet").height <= 2
    assert world.run("+selected_checkpoints", overrides=BY_GRADIENT) == []


def test_table_one_says_what_the_selection_says(finished: World) -> None:
    ratios = finished.table("progress_ratio_table", None, "progress_ratios.parquet")
    assignments = finished.table("selected_checkpoints", "demo", "assignments.parquet")
    shared = ["task", "best_step", "best_value", "metric", "above_chance", "fallback", "selection_probability"]
    assert ratios.select(shared).equals(assignments.select(shared))
    assert ratios["progress_ratio"].to_list() == pytest.approx([100 * step / 60 for step in ratios["best_step"]])
    assert set(ratios["selected_by"]) == {"acc"}
    page = page_of(finished)
    grid = page["best step in % of the run, by acc"]
    assert isinstance(grid, dg.TableMetadataValue)
    assert [column.name for column in grid.schema.columns] == ["task", "demo (42.1k)"]
    assert [record.data["task"] for record in grid.records] == ratios["task"].to_list()
    assert {"where skills peak, by acc", "trajectories of demo (ring: best step by acc)"} <= page.keys()


def page_of(world: World) -> dict[str, dg.MetadataValue]:
    event = world.instance.get_latest_materialization_event(dg.AssetKey("progress_ratio_table"))
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)
