"""Which checkpoints score documents, and for which tasks (paper, section 3: the best step per task)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from automixer_assets.benchmark.clustering import Cosines, best_step, clusterings
from automixer_assets.benchmark.stability import selection_probability
from automixer_assets.benchmark.trajectories import Row, Trajectories, Trajectory, trajectories_of
from automixer_assets.proxy.checkpoints import checkpoint_key, parse_checkpoint_key
from automixer_assets.settings import Recipe

__all__ = ["Chosen", "Selection", "checkpoint_key", "choose", "parse_checkpoint_key", "select_checkpoints"]

EARLY_PROGRESS = 0.25

SELECTED_SCHEMA = {
    "checkpoint": pl.String,
    "step": pl.Int64,
    "progress": pl.Float64,
    "alpha": pl.Float64,
    "tasks": pl.List(pl.String),
}
ASSIGNMENTS_SCHEMA = {
    "task": pl.String,
    "best_step": pl.Int64,
    "best_value": pl.Float64,
    "metric": pl.String,
    "checkpoint": pl.String,
    "above_chance": pl.Boolean,
    "fallback": pl.String,
    "selection_probability": pl.Float64,
    "cluster": pl.String,
}


@dataclass(frozen=True)
class Selection:
    """`selected`: a row per checkpoint, by step; `assignments`: a row per task, by name (docs/tables.md)."""

    selected: pl.DataFrame
    assignments: pl.DataFrame
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChosenStep:
    """A selected step, its blending factor, and the tasks it stands for, by name."""

    step: int
    alpha: float
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """The selected steps, ascending."""

    checkpoints: tuple[ChosenStep, ...]


@dataclass(frozen=True)
class _Choice:
    """Tasks by selected step, and the clusters that they were chosen by."""

    tasks: dict[int, set[str]]
    clusters: dict[str, str]  # task -> its cluster, called by the cluster's first task


def select_checkpoints(
    benchmark: pl.DataFrame, recipe: Recipe, *, items: pl.DataFrame | None = None, cosines: Cosines | None = None
) -> Selection:
    """Select checkpoints of one run from its benchmark table.

    `best_per_task` takes each task's best step by the recipe's metric, equal steps merged; a checkpoint's tasks are
    those that are best there. Under `max_checkpoints` the tasks that are most alike are taken together, by trajectory
    or by `cosines` of their gradients, until their best steps are few enough. `last`, `all`, `evenly:N` and `at:SHARE`
    judge no task: every task belongs to every checkpoint, `assignments` names the selected one where the task is best,
    and under `max_checkpoints` the latest stay. An early checkpoint that the recipe asks for has a place among them,
    if there are two. See `trajectories_of` for tasks near chance.

    With `items` (the run's `items.parquet`), `assignments` says how sure each best step is.

    Raises:
        AutomixerError: the table is empty, has no step above 0, or lacks a task at a checkpoint.
    """
    run = trajectories_of(benchmark, recipe.selection_metric, recipe.chance_fallback)
    choice = _choice(run, recipe, cosines)
    selected = [
        {**run.checkpoints[each.step], "alpha": each.alpha, "tasks": list(each.tasks)}
        for each in _chosen(choice, recipe).checkpoints
    ]
    assignments = [_assignment(trajectory, choice, run, items) for trajectory in run.tasks]
    return Selection(
        pl.DataFrame(selected, schema=SELECTED_SCHEMA),
        pl.DataFrame(assignments, schema=ASSIGNMENTS_SCHEMA),
        run.warnings,
    )


def choose(run: Trajectories, recipe: Recipe, cosines: Cosines | None = None) -> Chosen:
    """The same selection from trajectories as they are, without its tables."""
    return _chosen(_choice(run, recipe, cosines), recipe)


def _choice(run: Trajectories, recipe: Recipe, cosines: Cosines | None) -> _Choice:
    early = _nearest(run.checkpoints, EARLY_PROGRESS) if recipe.early_checkpoint else None
    if recipe.selection == "best_per_task":
        return _best_per_task(run, early, recipe.max_checkpoints, cosines)
    return _fixed(run, _strategy_steps(recipe.selection, run), early, recipe.max_checkpoints)


def _chosen(choice: _Choice, recipe: Recipe) -> Chosen:
    alphas = _alphas(choice.tasks, recipe.alpha)
    return Chosen(tuple(ChosenStep(step, alphas[step], tuple(sorted(choice.tasks[step]))) for step in sorted(alphas)))


def _best_per_task(run: Trajectories, early: int | None, limit: int | None, cosines: Cosines | None) -> _Choice:
    """The finest clustering whose best steps, with the early one, are within the limit; one cluster always is."""
    reserved = _reserved(early, limit)
    clusters = next(
        clusters
        for clusters in clusterings(run.tasks, cosines)
        if limit is None or len({*map(best_step, clusters), *reserved}) <= limit
    )
    tasks: dict[int, set[str]] = {step: set() for step in reserved}
    for cluster in clusters:
        tasks.setdefault(best_step(cluster), set()).update(trajectory.task for trajectory in cluster)
    named = {trajectory.task: cluster[0].task for cluster in clusters for trajectory in cluster}
    return _Choice(tasks, named)


def _fixed(run: Trajectories, steps: Sequence[int], early: int | None, limit: int | None) -> _Choice:
    """Every task at every one of these steps; an early one that is not among them has none."""
    reserved = _reserved(early, limit)
    own = [step for step in steps if step not in reserved]
    places = len(own) if limit is None else max(0, limit - len(reserved))
    everything = {trajectory.task for trajectory in run.tasks}
    kept = [*own[len(own) - min(places, len(own)) :], *(step for step in reserved if step in steps)]
    return _Choice({**{step: set() for step in reserved}, **{step: set(everything) for step in kept}}, {})


def _reserved(early: int | None, limit: int | None) -> tuple[int, ...]:
    """The early step has a place of its own, unless there is only one."""
    return () if early is None or limit == 1 else (early,)


def _strategy_steps(selection: str, run: Trajectories) -> list[int]:
    """`evenly:N` takes N kept checkpoints at equal distances in their order, the last always among them; `at:SHARE`
    the one nearest to that share of the run."""
    name, _, number = selection.partition(":")
    if name == "at":
        return [_nearest(run.checkpoints, float(number))]
    if name == "evenly":
        count = min(int(number), len(run.steps))
        return [run.steps[-(-len(run.steps) * (index + 1) // count) - 1] for index in range(count)]
    return run.steps if name == "all" else run.steps[-1:]


def _nearest(checkpoints: dict[int, Row], progress: float) -> int:
    """The step nearest to that share of the run, ties to the earlier."""
    return min(checkpoints, key=lambda step: (abs(checkpoints[step]["progress"] - progress), step))


def _alphas(tasks: dict[int, set[str]], rule: str) -> dict[int, float]:
    """Blending factors (paper, section 4): t_j / sum of t; or equal; or by the number of tasks."""
    raw = {step: {"steps": step, "uniform": 1, "tasks": len(members)}[rule] for step, members in tasks.items()}
    return {step: value / sum(raw.values()) for step, value in raw.items()}


def _assignment(trajectory: Trajectory, choice: _Choice, run: Trajectories, items: pl.DataFrame | None) -> Row:
    best = trajectory.best()
    home = trajectory.best([step for step, members in choice.tasks.items() if trajectory.task in members])
    return {
        "task": trajectory.task,
        "best_step": best["step"],
        "best_value": best[trajectory.metric],
        "metric": trajectory.metric,
        "checkpoint": run.checkpoints[home["step"]]["checkpoint"],
        "above_chance": trajectory.above_chance,
        "fallback": trajectory.fallback,
        "selection_probability": None if items is None else selection_probability(trajectory, items),
        "cluster": choice.clusters.get(trajectory.task),
    }
