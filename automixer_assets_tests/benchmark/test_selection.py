"""Claims about which checkpoints are selected, against a reference that states the rules the slow way."""

from __future__ import annotations

import itertools
import statistics
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
        "selection_probability": None,
        "cluster": "a",
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


@pytest.mark.parametrize(("share", "step"), [(".25", 20), ("0.26", 30), ("1", 100), (".01", 10)])
def test_a_share_of_the_run_takes_the_nearest_checkpoint_for_every_task(share: str, step: int) -> None:
    table = accuracies(a=[0.5] * 9 + [0.9], b=[0.5] * 10)
    assert steps_tasks(select(table, selection=f"at:{share}")) == {step: ["a", "b"]}


def test_the_early_checkpoint_is_nearest_to_a_quarter_of_the_run() -> None:
    table = accuracies(a=[0.5] * 9 + [0.9])
    selection = select(table, early_checkpoint=True)
    assert steps_tasks(selection) == {20: [], 100: ["a"]}
    assert selection.selected["alpha"].to_list() == pytest.approx([20 / 120, 100 / 120])
    chosen_anyway = select(accuracies(a=[0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]), early_checkpoint=True)
    assert steps_tasks(chosen_anyway) == {20: ["a"]}


RISING, FALLING = [0.5, 0.6, 0.8, 0.9], [0.9, 0.8, 0.6, 0.5]


def test_tasks_that_develop_alike_share_a_checkpoint_under_a_limit() -> None:
    table = accuracies(a=RISING, b=FALLING, c=[0.5, 0.7, 0.9, 0.8], d=[0.7, 0.9, 0.6, 0.5])
    assert steps_tasks(select(table)) == {10: ["b"], 20: ["d"], 30: ["c"], 40: ["a"]}
    selection = select(table, max_checkpoints=2)
    # a and c rise, b and d fall; the mean standard score of a and c is highest at 30 or 40, of b and d at 10 or 20
    assert [set(tasks) for tasks in steps_tasks(selection).values()] == [{"b", "d"}, {"a", "c"}]
    assert selection.assignments.select("task", "cluster").rows() == [("a", "a"), ("b", "b"), ("c", "a"), ("d", "b")]
    moved = {row["task"]: row for row in selection.assignments.iter_rows(named=True)}
    assert (moved["b"]["best_step"], moved["d"]["best_step"]) == (10, 20), "a task's own best step is still recorded"
    assert moved["b"]["checkpoint"] == moved["d"]["checkpoint"]
    assert steps_tasks(select(table, max_checkpoints=1)).popitem()[1] == list("abcd")


def test_a_limit_that_is_not_reached_merges_nothing() -> None:
    table = accuracies(a=RISING, b=RISING, c=FALLING)
    selection = select(table, max_checkpoints=2)
    assert steps_tasks(selection) == {10: ["c"], 40: ["a", "b"]}
    assert selection.assignments["cluster"].to_list() == ["a", "b", "c"]


def test_gradients_can_say_which_tasks_are_alike() -> None:
    table = accuracies(a=RISING, b=FALLING, c=[0.6, 0.7, 0.9, 0.8])
    alike = {("a", "b"): 0.9, ("a", "c"): 0.1, ("b", "c"): -0.2}
    cosines = {**alike, **{(k, j): value for (j, k), value in alike.items()}, **{(t, t): 1.0 for t in "abc"}}
    by_trajectory = select(table, max_checkpoints=2).assignments["cluster"].to_list()
    by_gradient = select_checkpoints(
        benchmark(table), recipe(max_checkpoints=2, task_clustering="gradient"), cosines=cosines
    )
    assert by_trajectory == ["a", "b", "a"]
    assert by_gradient.assignments["cluster"].to_list() == ["a", "a", "c"]


def test_a_flat_task_is_alike_to_none() -> None:
    table = accuracies(a=RISING, b=[0.6] * 4, c=[0.5, 0.6, 0.7, 0.6], d=FALLING)
    assert select(table, max_checkpoints=3).assignments["cluster"].to_list() == ["a", "b", "c", "d"]
    assert steps_tasks(select(table, max_checkpoints=3)) == {10: ["b", "d"], 30: ["c"], 40: ["a"]}
    assert select(table, max_checkpoints=2).assignments["cluster"].to_list() == ["a", "b", "a", "d"]


def test_the_early_checkpoint_keeps_its_place_under_a_limit() -> None:
    table = accuracies(a=[0.5, 0.5, 0.9, 0.5], b=[0.6, 0.5, 0.5, 0.9], c=[0.5, 0.5, 0.5, 0.9])
    assert steps_tasks(select(table, early_checkpoint=True)) == {10: [], 30: ["a"], 40: ["b", "c"]}
    limited = steps_tasks(select(table, early_checkpoint=True, max_checkpoints=2))
    assert limited == {10: [], 40: ["a", "b", "c"]}
    assert len(steps_tasks(select(table, early_checkpoint=True, max_checkpoints=1))) == 1
    fixed = steps_tasks(select(table, selection="all", early_checkpoint=True, max_checkpoints=2))
    assert fixed == {10: ["a", "b", "c"], 40: ["a", "b", "c"]}


def test_the_guard_can_be_left_out() -> None:
    table: Table = {
        (step, "a"): {"acc": acc, "acc_stderr": 0.1, "gold_nll": nll}
        for step, acc, nll in ((10, 0.45, 3.0), (20, 0.2, 1.0), (30, 0.3, 1.0))
    }
    guarded = select(table).assignments.row(0, named=True)
    assert (guarded["best_step"], guarded["metric"], guarded["fallback"]) == (20, "gold_nll", "gold_nll")
    literal = select(table, chance_fallback="none").assignments.row(0, named=True)
    assert (literal["best_step"], literal["metric"], literal["fallback"]) == (10, "acc", None)
    assert literal["above_chance"] is False, "still flagged"


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
    chance_fallback=st.sampled_from(["gold_nll", "none"]),
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
    metrics = {task: metric_of(table, task, steps, recipe) for task in tasks}
    expected = reference_groups(table, metrics, steps, recipe)
    found = {step: set(members) for step, members in steps_tasks(selection).items()}
    assert found in expected
    weight = {"steps": lambda s: s, "uniform": lambda s: 1, "tasks": lambda s: len(found[s])}[recipe.alpha]
    total = sum(weight(step) for step in found)
    alphas = [weight(step) / total for step in sorted(found)]
    assert selection.selected["alpha"].to_list() == pytest.approx(alphas)
    for row in selection.assignments.iter_rows(named=True):
        order = sorted(steps, key=lambda step: -turned(table, row["task"], step, metrics))
        assert (row["metric"], row["best_step"]) == (metrics[row["task"]], order[0])
        home = next(step for step in order if row["task"] in found.get(step, ()))
        assert row["checkpoint"] == checkpoint_key("p", home)


def metric_of(table: Table, task: str, steps: list[int], recipe: Recipe) -> str:
    rows = [table[step, task] for step in steps]
    near_chance = not any(row["acc"] > 0.25 + 2 * (row["acc_stderr"] or 0) for row in rows)
    if near_chance and recipe.chance_fallback == "gold_nll":
        return "gold_nll"
    return "acc" if rows[0][recipe.selection_metric] is None else recipe.selection_metric


def turned(table: Table, task: str, step: int, metrics: dict[str, str]) -> float:
    """Higher is better."""
    value = table[step, task][metrics[task]]
    return -value if metrics[task] == "gold_nll" else value


def reference_groups(
    table: Table, metrics: dict[str, str], steps: list[int], recipe: Recipe
) -> list[dict[int, set[str]]]:
    """Every outcome that the rules allow: pairs of clusters may be equally far apart."""
    early = sorted(steps, key=lambda step: abs(step / steps[-1] - 0.25))[0] if recipe.early_checkpoint else None
    reserved = set() if early is None or recipe.max_checkpoints == 1 else {early}
    limit = recipe.max_checkpoints or len(steps) + 1
    if recipe.selection != "best_per_task":
        return [fixed_groups(set(metrics), steps, recipe.selection, reserved, limit)]
    outcomes, frontier = [], [[{task} for task in sorted(metrics)]]
    seen: list[list[set[str]]] = []
    while frontier:
        clusters = frontier.pop()
        if clusters in seen:
            continue
        seen.append(clusters)
        groups: dict[int, set[str]] = {step: set() for step in reserved}
        for cluster in clusters:
            groups.setdefault(slow_best(table, metrics, steps, cluster), set()).update(cluster)
        if len(groups) <= limit:
            outcomes.append(groups)
        else:
            frontier += merged(table, metrics, steps, clusters)
    return outcomes


def fixed_groups(
    tasks: set[str], steps: list[int], strategy: str, reserved: set[int], limit: int
) -> dict[int, set[str]]:
    n, k = len(steps), len(steps)
    if strategy != "all":
        k = min(n, 1 if strategy == "last" else int(strategy.split(":")[1]))
    positions = {-(-n * i // k) for i in range(1, k + 1)}
    groups = {step: set(tasks) for i, step in enumerate(steps, 1) if i in positions}
    for step in reserved:
        groups.setdefault(step, set())
    while len(groups) > limit:
        del groups[min(step for step in groups if step not in reserved)]
    return groups


def scores(table: Table, metrics: dict[str, str], steps: list[int], task: str) -> list[float]:
    values = [turned(table, task, step, metrics) for step in steps]
    if len(set(values)) == 1:
        return [0.0] * len(steps)
    return [(value - statistics.fmean(values)) / statistics.pstdev(values) for value in values]


def slow_best(table: Table, metrics: dict[str, str], steps: list[int], cluster: set[str]) -> int:
    if len(cluster) == 1:
        (task,) = cluster
        return max(steps, key=lambda step: (turned(table, task, step, metrics), -step))
    columns = [scores(table, metrics, steps, task) for task in sorted(cluster)]
    means = [round(statistics.fmean(column[i] for column in columns), 9) for i in range(len(steps))]
    return steps[means.index(max(means))]


def merged(table: Table, metrics: dict[str, str], steps: list[int], clusters: list[set[str]]) -> list[list[set[str]]]:
    """The clusterings after one merge of two clusters that are closest on average."""

    def apart(one: set[str], other: set[str]) -> float:
        distances = []
        for task, another in itertools.product(sorted(one), sorted(other)):
            pairs = zip(scores(table, metrics, steps, task), scores(table, metrics, steps, another), strict=True)
            distances.append(1 - statistics.fmean(a * b for a, b in pairs))
        return statistics.fmean(distances)

    pairs = list(itertools.combinations(range(len(clusters)), 2))
    nearest = min(apart(clusters[i], clusters[j]) for i, j in pairs)
    outcomes = []
    for i, j in pairs:
        if apart(clusters[i], clusters[j]) <= nearest + 1e-6:
            rest = [cluster for k, cluster in enumerate(clusters) if k not in (i, j)]
            outcomes.append(sorted([*rest, clusters[i] | clusters[j]], key=sorted))
    return outcomes


@given(table=tables(), limit=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_rows_in_another_order_select_the_same(table: Table, limit: int) -> None:
    frame, chosen = benchmark(table), recipe(max_checkpoints=limit)
    forward, backward = select_checkpoints(frame, chosen), select_checkpoints(frame.reverse(), chosen)
    assert forward.selected.equals(backward.selected)
    assert forward.assignments.equals(backward.assignments)
