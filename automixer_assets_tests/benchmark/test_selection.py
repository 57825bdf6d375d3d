"""Claims about which checkpoints are selected, against a reference that states the rules the slow way."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.benchmark.runner import BENCHMARK_SCHEMA
from automixer_assets.benchmark.selection import (
    ASSIGNMENTS_SCHEMA,
    SELECTED_SCHEMA,
    Selection,
    checkpoint_key,
    select_checkpoints,
)
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Recipe

Table = dict[tuple[int, str], dict[str, Any]]


def benchmark(table: Table, total: int | None = None) -> pl.DataFrame:
    """Rows from {(step, task): values}; what is not given is far above chance and has no acc_norm."""
    last = total or max(step for step, _ in table)
    filled = [
        {
            **dict.fromkeys(BENCHMARK_SCHEMA, None),
            "checkpoint": checkpoint_key("p", step),
            "step": step,
            "progress": step / last,
            "task": task,
            "acc": 0.9,
            "acc_stderr": 0.01,
            "chance": 0.25,
            "gold_nll": 1.0,
            "n_items": 40,
            **values,
        }
        for (step, task), values in table.items()
    ]
    return pl.DataFrame(filled, schema=BENCHMARK_SCHEMA)


def recipe(**options: Any) -> Recipe:
    return Recipe.model_validate({"proxy": "p", **options})


def select(table: Table, **options: Any) -> Selection:
    return select_checkpoints(benchmark(table), recipe(**options))


def steps_tasks(selection: Selection) -> dict[int, list[str]]:
    return dict(selection.selected.select("step", "tasks").iter_rows())


def accuracies(**by_task: list[float]) -> Table:
    """A value per step 10, 20, 30, ... for each task."""
    return {(10 * (i + 1), task): {"acc": acc} for task, values in by_task.items() for i, acc in enumerate(values)}


THREE = accuracies(a=[0.5, 0.9, 0.9, 0.6], b=[0.5, 0.6, 0.7, 0.8], c=[0.5, 0.9, 0.7, 0.8])


def test_each_task_picks_its_best_step_and_ties_go_to_the_earliest() -> None:
    selection = select(THREE)
    assert steps_tasks(selection) == {20: ["a", "c"], 40: ["b"]}
    assert selection.selected["alpha"].to_list() == pytest.approx([20 / 60, 40 / 60])
    assert selection.selected["checkpoint"].to_list() == ["p-step-000020", "p-step-000040"]
    first = selection.assignments.row(0, named=True)
    assert first == {
        "task": "a",
        "best_step": 20,
        "best_value": 0.9,
        "metric": "acc",
        "checkpoint": "p-step-000020",
        "above_chance": True,
        "fallback": None,
    }


def test_columns_are_those_of_the_contract() -> None:
    selection = select(THREE)
    assert selection.selected.schema == pl.Schema(SELECTED_SCHEMA)
    assert selection.assignments.schema == pl.Schema(ASSIGNMENTS_SCHEMA)


def test_gold_nll_is_better_when_lower() -> None:
    table = {(step, "a"): {"gold_nll": nll} for step, nll in ((10, 2.0), (20, 1.0), (30, 3.0))}
    selection = select(table, selection_metric="gold_nll")
    assert steps_tasks(selection) == {20: ["a"]}
    assert selection.assignments["best_value"].to_list() == [1.0]


def test_a_task_without_acc_norm_is_judged_by_acc() -> None:
    table = accuracies(a=[0.5, 0.9], b=[0.9, 0.5])
    for step, norm in ((10, 0.95), (20, 0.6)):
        table[step, "a"]["acc_norm"] = norm
    selection = select(table, selection_metric="acc_norm")
    assert steps_tasks(selection) == {10: ["a", "b"]}
    assert selection.assignments["metric"].to_list() == ["acc_norm", "acc"]


def test_a_task_at_chance_falls_back_on_gold_nll() -> None:
    table: Table = {
        (step, "a"): {"acc": acc, "acc_stderr": 0.1, "gold_nll": nll}
        for step, acc, nll in ((10, 0.45, 3.0), (20, 0.2, 1.0), (30, 0.3, 1.0))
    }
    flagged = select(table).assignments.row(0, named=True)
    assert (flagged["best_step"], flagged["best_value"], flagged["metric"]) == (20, 1.0, "gold_nll")
    assert (flagged["above_chance"], flagged["fallback"]) == (False, "gold_nll")
    table[10, "a"]["acc"] = 0.46
    clear = select(table).assignments.row(0, named=True)
    assert (clear["best_step"], clear["above_chance"], clear["fallback"]) == (10, True, None)
    by_nll = select({**table, (10, "a"): {**table[10, "a"], "acc": 0.3}}, selection_metric="gold_nll")
    assert by_nll.assignments.select("above_chance", "fallback").row(0) == (False, None)


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [("last", [100]), ("all", list(range(10, 101, 10))), ("evenly:1", [100]), ("evenly:2", [50, 100]),
     ("evenly:3", [40, 70, 100]), ("evenly:10", list(range(10, 101, 10))), ("evenly:99", list(range(10, 101, 10)))],
)  # fmt: skip
def test_fixed_strategies_give_every_task_to_every_checkpoint(strategy: str, steps: list[int]) -> None:
    table = accuracies(a=[0.5 + i / 100 for i in range(10)], b=[0.8 - i / 100 for i in range(10)])
    selection = select(table, selection=strategy)
    assert steps_tasks(selection) == {step: ["a", "b"] for step in steps}
    best = selection.assignments.select("best_step", "checkpoint").rows()
    assert best == [(100, "p-step-000100"), (10, checkpoint_key("p", steps[0]))]


def test_the_early_checkpoint_is_nearest_to_a_quarter_of_the_run() -> None:
    table = accuracies(a=[0.5] * 9 + [0.9])
    selection = select(table, early_checkpoint=True)
    assert steps_tasks(selection) == {20: [], 100: ["a"]}
    assert selection.selected["alpha"].to_list() == pytest.approx([20 / 120, 100 / 120])
    chosen_anyway = select(accuracies(a=[0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]), early_checkpoint=True)
    assert steps_tasks(chosen_anyway) == {20: ["a"]}


def test_max_checkpoints_keeps_those_with_most_tasks_and_moves_the_others() -> None:
    table = accuracies(
        a=[0.5, 0.9, 0.5, 0.5],
        b=[0.5, 0.9, 0.5, 0.5],
        c=[0.9, 0.5, 0.6, 0.7],
        d=[0.5, 0.6, 0.9, 0.8],
        e=[0.6, 0.7, 0.5, 0.9],
    )
    assert steps_tasks(select(table)) == {10: ["c"], 20: ["a", "b"], 30: ["d"], 40: ["e"]}
    selection = select(table, max_checkpoints=2)
    assert steps_tasks(selection) == {20: ["a", "b"], 40: ["c", "d", "e"]}
    moved = {row["task"]: row for row in selection.assignments.iter_rows(named=True)}
    assert (moved["c"]["best_step"], moved["c"]["checkpoint"]) == (10, "p-step-000040")
    assert steps_tasks(select(table, max_checkpoints=1)) == {20: list("abcde")}


def test_the_early_checkpoint_keeps_its_place_under_a_limit() -> None:
    table = accuracies(a=[0.5, 0.5, 0.9, 0.5], b=[0.6, 0.5, 0.5, 0.9], c=[0.5, 0.5, 0.5, 0.9])
    assert steps_tasks(select(table, early_checkpoint=True)) == {10: [], 30: ["a"], 40: ["b", "c"]}
    assert steps_tasks(select(table, early_checkpoint=True, max_checkpoints=2)) == {10: ["a"], 40: ["b", "c"]}
    assert steps_tasks(select(table, early_checkpoint=True, max_checkpoints=1)) == {40: ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("rule", "alphas"), [("steps", [1 / 3, 2 / 3]), ("uniform", [0.5, 0.5]), ("tasks", [2 / 3, 1 / 3])]
)
def test_alphas_follow_the_rule(rule: str, alphas: list[float]) -> None:
    assert select(THREE, alpha=rule).selected["alpha"].to_list() == pytest.approx(alphas)


def test_step_zero_is_left_out_with_a_warning() -> None:
    table = {**THREE, **{(0, task): {"acc": 1.0} for task in "abc"}}
    selection = select(table, selection="all")
    assert selection.selected["step"].to_list() == [10, 20, 30, 40]
    assert selection.warnings == ("step 0 was left out: an untrained model scores documents at random",)
    assert select(THREE).warnings == ()


def test_unusable_tables_are_refused() -> None:
    with pytest.raises(AutomixerError, match="no checkpoint above step 0"):
        select_checkpoints(benchmark({(0, "a"): {}}, total=1), recipe())
    incomplete = benchmark({key: value for key, value in THREE.items() if key != (20, "b")})
    with pytest.raises(AutomixerError, match="2 rows at step 20, expected one checkpoint with 3 tasks"):
        select_checkpoints(incomplete, recipe())
    two_proxies = pl.concat(
        [benchmark(THREE), benchmark(THREE).with_columns(pl.lit("q-step-000010").alias("checkpoint"))]
    )
    with pytest.raises(AutomixerError, match="of one proxy"):
        select_checkpoints(two_proxies, recipe())


values = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 0.9])
recipes = st.builds(
    recipe,
    selection=st.sampled_from(["best_per_task", "last", "all", "evenly:1", "evenly:2", "evenly:3"]),
    selection_metric=st.sampled_from(["acc", "acc_norm", "gold_nll"]),
    early_checkpoint=st.booleans(),
    max_checkpoints=st.one_of(st.none(), st.integers(1, 4)),
    alpha=st.sampled_from(["steps", "uniform", "tasks"]),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    steps = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True))
    tasks = "abcd"[: draw(st.integers(1, 4))]
    normed = {task: draw(st.booleans()) for task in tasks}
    return {
        (step, task): {
            "acc": draw(values),
            "acc_norm": draw(values) if normed[task] else None,
            "gold_nll": draw(values),
            "acc_stderr": draw(st.sampled_from([0.01, 0.2, None])),
        }
        for step in steps
        for task in tasks
    }


@given(table=tables(), recipe=recipes)
@settings(max_examples=200, deadline=None)
def test_it_agrees_with_the_rules_stated_slowly(table: Table, recipe: Recipe) -> None:
    selection = select_checkpoints(benchmark(table), recipe)
    steps, tasks = sorted({step for step, _ in table}), sorted({task for _, task in table})
    orders = {task: best_first(table, task, steps, recipe.selection_metric) for task in tasks}
    expected = reference_groups(orders, steps, recipe)
    assert {step: set(members) for step, members in steps_tasks(selection).items()} == expected
    weight = {"steps": lambda s: s, "uniform": lambda s: 1, "tasks": lambda s: len(expected[s])}[recipe.alpha]
    total = sum(weight(step) for step in expected)
    assert selection.selected["alpha"].to_list() == pytest.approx([weight(step) / total for step in sorted(expected)])
    for row in selection.assignments.iter_rows(named=True):
        order = orders[row["task"]]
        assert row["best_step"] == order[0]
        assert row["checkpoint"] == checkpoint_key("p", next(s for s in order if row["task"] in expected.get(s, ())))


def best_first(table: Table, task: str, steps: list[int], metric: str) -> list[int]:
    rows = {step: table[step, task] for step in steps}
    if metric == "acc_norm" and rows[steps[0]]["acc_norm"] is None:
        metric = "acc"
    if not any(row["acc"] > 0.25 + 2 * (row["acc_stderr"] or 0) for row in rows.values()):
        metric = "gold_nll"
    return sorted(steps, key=lambda step: rows[step][metric] if metric == "gold_nll" else -rows[step][metric])


def reference_groups(orders: dict[str, list[int]], steps: list[int], recipe: Recipe) -> dict[int, set[str]]:
    groups: dict[int, set[str]] = {}
    if recipe.selection == "best_per_task":
        for task, order in orders.items():
            groups.setdefault(order[0], set()).add(task)
    else:
        n, k = len(steps), len(steps)
        if recipe.selection != "all":
            k = min(n, 1 if recipe.selection == "last" else int(recipe.selection.split(":")[1]))
        positions = {-(-n * i // k) for i in range(1, k + 1)}
        groups = {step: set(orders) for i, step in enumerate(steps, 1) if i in positions}
    early = None
    if recipe.early_checkpoint:
        early = sorted(steps, key=lambda step: abs(step / steps[-1] - 0.25))[0]
        groups.setdefault(early, set())
    while recipe.max_checkpoints is not None and len(groups) > recipe.max_checkpoints:
        spare = [step for step in groups if step != early or recipe.max_checkpoints == 1]
        del groups[min(spare, key=lambda step: (len(groups[step]), step))]
    for task, order in orders.items():
        if not any(task in members for members in groups.values()):
            groups[next(step for step in order if step in groups)].add(task)
    return groups
