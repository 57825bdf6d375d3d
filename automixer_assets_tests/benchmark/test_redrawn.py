"""Claims about what other items would have selected."""

from __future__ import annotations

import random

import polars as pl
import pytest

from automixer_assets.benchmark.redrawn import alpha_intervals, redrawn_selections, winners
from automixer_assets.benchmark.selection import checkpoint_key, select_checkpoints
from automixer_assets.settings import Recipe
from automixer_assets_tests.benchmark.test_stability import Answers, tables


def recipe(**options: object) -> Recipe:
    return Recipe.model_validate({"proxy": "p", "chance_fallback": "none", **options})


def noisy(n_items: int = 40, tasks: str = "abc", seed: int = 1) -> Answers:
    generator = random.Random(seed)
    return {
        task: {step: [float(generator.random() < 0.5 + step / 200) for _ in range(n_items)] for step in (10, 20, 30)}
        for task in tasks
    }


def test_the_winners_of_a_task_share_out_all_resamples_and_the_chosen_one_is_marked() -> None:
    benchmark, items = tables(noisy())
    found = winners(benchmark, recipe(), items)
    assignments = select_checkpoints(benchmark, recipe(), items=items).assignments
    for (task,), rows in found.group_by("task"):
        assert rows["probability"].sum() == pytest.approx(1)
        assert rows["probability"].is_sorted(descending=True)
        own = assignments.filter(pl.col("task") == task)
        assert rows.filter("chosen").select("step", "value", "probability").row(0) == (
            own["best_step"][0],
            own["best_value"][0],
            own["selection_probability"][0],
        )


def test_a_step_that_answers_every_item_best_is_the_only_winner_and_the_only_selection() -> None:
    answers: Answers = {task: {10: [0.0] * 9, 20: [1.0] * 9} for task in "ab"}
    benchmark, items = tables(answers)
    assert winners(benchmark, recipe(), items)["step"].to_list() == [20, 20]
    redrawn = redrawn_selections(benchmark, recipe(), items)
    assert redrawn.select("selection", "share", "chosen", "step", "alpha").rows() == [(0, 1.0, True, 20, 1.0)]
    assert alpha_intervals(redrawn).drop("checkpoint").rows() == [(20, 1.0, 1.0, 1.0, 1.0)]


def test_redrawn_selections_share_out_the_draws_and_their_alphas_are_the_recipe_s() -> None:
    benchmark, items = tables(noisy())
    redrawn = redrawn_selections(benchmark, recipe(), items)
    by_selection = redrawn.group_by("selection").agg(pl.col("share").first(), pl.col("alpha").sum())
    assert by_selection["share"].sum() == pytest.approx(1)
    assert by_selection["alpha"].to_list() == pytest.approx([1.0] * by_selection.height)
    for _, rows in redrawn.group_by("selection"):
        steps = rows["step"].to_list()
        assert rows["alpha"].to_list() == pytest.approx([step / sum(steps) for step in steps])
        assert sorted(task for tasks in rows["tasks"] for task in tasks) == ["a", "b", "c"]
    actual = select_checkpoints(benchmark, recipe()).selected.select("step", "alpha", "tasks")
    assert redrawn.filter("chosen").select("step", "alpha", "tasks").equals(actual)
    assert redrawn["share"].is_sorted(descending=True)


def test_tasks_are_redrawn_independently() -> None:
    """Two tasks, each a toss-up between the same steps: a quarter of the draws for each of the four outcomes."""
    generator = random.Random(3)
    mixed = [float(generator.random() < 0.5) for _ in range(400)]
    answers: Answers = {task: {10: mixed, 20: [1 - value for value in mixed]} for task in "ab"}
    answers["a"][10] = answers["b"][10] = [float(i % 2) for i in range(400)]
    answers["a"][20] = answers["b"][20] = [float(1 - i % 2) for i in range(400)]
    benchmark, items = tables(answers)
    redrawn = redrawn_selections(benchmark, recipe(), items, resamples=1000)
    sizes = redrawn.group_by("selection").agg(pl.len(), pl.col("share").first())
    apart = float(sizes.filter(pl.col("len") == 2)["share"].sum())
    assert apart == pytest.approx(0.5, abs=0.06)


def test_an_alpha_s_interval_counts_the_draws_that_do_not_select_its_checkpoint() -> None:
    redrawn = pl.DataFrame(
        {
            "selection": [0, 0, 1],
            "share": [0.9, 0.9, 0.1],
            "chosen": [True, True, False],
            "checkpoint": [checkpoint_key("p", step) for step in (10, 30, 20)],
            "step": [10, 30, 20],
            "alpha": [0.25, 0.75, 1.0],
            "tasks": [["a"], ["b"], ["a", "b"]],
        }
    )
    found = alpha_intervals(redrawn).drop("checkpoint").rows()
    assert found == [(10, 0.25, 0.9, 0.0, 0.25), (20, None, 0.1, 0.0, 1.0), (30, 0.75, 0.9, 0.0, 0.75)]


def test_limits_and_fixed_strategies_go_through_the_recipe_s_own_selection() -> None:
    benchmark, items = tables(noisy())
    limited = redrawn_selections(benchmark, recipe(max_checkpoints=1), items, resamples=60)
    assert set(limited.group_by("selection").len()["len"]) == {1}
    assert limited["selection"].n_unique() > 1
    everything = redrawn_selections(benchmark, recipe(selection="all"), items, resamples=60)
    assert everything["share"].to_list() == [1.0] * 3
    assert redrawn_selections(benchmark, recipe(), items).equals(
        redrawn_selections(benchmark.reverse(), recipe(), items.reverse())
    )
