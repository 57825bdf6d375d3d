"""Which checkpoints score documents, and for which tasks (paper, section 3: the best step per task)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.checkpoints import checkpoint_key, parse_checkpoint_key
from automixer_assets.settings import Recipe

__all__ = ["Selection", "checkpoint_key", "parse_checkpoint_key", "select_checkpoints"]

EARLY_PROGRESS = 0.25
LOWER_IS_BETTER = ("gold_nll",)

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
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """`selected`: a row per checkpoint, by step; `assignments`: a row per task, by name (docs/tables.md)."""

    selected: pl.DataFrame
    assignments: pl.DataFrame
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Trajectory:
    """One task over the steps of the run, and the metric by which its best step is judged."""

    task: str
    rows: tuple[Row, ...]
    metric: str
    above_chance: bool
    fallback: str | None

    def best(self, steps: Sequence[int]) -> Row:
        """The best of these steps; ties go to the earliest."""
        sign = 1 if self.metric in LOWER_IS_BETTER else -1
        return min(
            (row for row in self.rows if row["step"] in steps), key=lambda row: (sign * row[self.metric], row["step"])
        )


def select_checkpoints(benchmark: pl.DataFrame, recipe: Recipe) -> Selection:
    """Select checkpoints of one run from its benchmark table.

    `best_per_task` takes each task's best step by the recipe's metric, equal steps merged; a checkpoint's tasks are
    those that are best there. `last`, `all` and `evenly:N` judge no task: every task belongs to every checkpoint, and
    `assignments` names the selected checkpoint where the task is best. A task whose accuracy never exceeds chance by
    two standard errors has a best step by accident only (DESIGN, best step): it falls back on the lowest `gold_nll`.

    Under `max_checkpoints` those with most tasks stay, ties to the later; tasks of a dropped checkpoint go to the kept
    one where they are best. An early checkpoint that the recipe asks for keeps its place among them, if there are two.

    Raises:
        AutomixerError: the table is empty, has no step above 0, or lacks a task at a checkpoint.
    """
    trained = benchmark.filter(pl.col("step") > 0)
    warnings = (
        ("step 0 was left out: an untrained model scores documents at random",) if len(trained) < len(benchmark) else ()
    )
    checkpoints = _checkpoints(trained)
    trajectories = [_trajectory(task, trained, recipe.selection_metric) for task in sorted(trained["task"].unique())]
    tasks = _tasks_per_step(trajectories, list(checkpoints), recipe)
    early = _early(checkpoints) if recipe.early_checkpoint else None
    tasks = _limited(tasks, trajectories, early, recipe)
    alphas = _alphas(tasks, recipe.alpha)
    selected = [{**checkpoints[step], "alpha": alphas[step], "tasks": sorted(tasks[step])} for step in sorted(tasks)]
    assignments = [_assignment(trajectory, tasks, checkpoints) for trajectory in trajectories]
    return Selection(
        pl.DataFrame(selected, schema=SELECTED_SCHEMA), pl.DataFrame(assignments, schema=ASSIGNMENTS_SCHEMA), warnings
    )


def _checkpoints(trained: pl.DataFrame) -> dict[int, Row]:
    """checkpoint, step and progress by step, ascending; every one must have every task exactly once."""
    if trained.is_empty():
        raise AutomixerError(
            "the benchmark table has no checkpoint above step 0; evaluate the proxy's checkpoints first"
        )
    n_tasks = trained["task"].n_unique()
    for (step,), rows in trained.group_by("step", maintain_order=True):
        if rows.height != n_tasks or rows["task"].n_unique() != n_tasks or rows["checkpoint"].n_unique() != 1:
            raise AutomixerError(
                f"the benchmark table has {rows.height} rows at step {step}, expected one checkpoint with {n_tasks} "
                "tasks; evaluate all tasks at all checkpoints of one proxy"
            )
    unique = trained.unique(["checkpoint", "step"]).sort("step").select("checkpoint", "step", "progress")
    return {row["step"]: row for row in unique.iter_rows(named=True)}


def _trajectory(task: str, trained: pl.DataFrame, metric: str) -> _Trajectory:
    rows = tuple(trained.filter(pl.col("task") == task).sort("step").iter_rows(named=True))
    if any(row[metric] is None for row in rows):  # boolq, social_iqa and winogrande have no acc_norm
        metric = "acc"
    above_chance = any(row["acc"] > row["chance"] + 2 * (row["acc_stderr"] or 0.0) for row in rows)
    if above_chance or metric == "gold_nll":
        return _Trajectory(task, rows, metric, above_chance, None)
    return _Trajectory(task, rows, "gold_nll", above_chance, "gold_nll")


def _tasks_per_step(trajectories: list[_Trajectory], steps: list[int], recipe: Recipe) -> dict[int, set[str]]:
    """Tasks of each selected step, by the recipe's strategy alone."""
    if recipe.selection != "best_per_task":
        everything = {trajectory.task for trajectory in trajectories}
        return {step: set(everything) for step in _strategy_steps(recipe.selection, steps)}
    tasks: dict[int, set[str]] = {}
    for trajectory in trajectories:
        tasks.setdefault(trajectory.best(steps)["step"], set()).add(trajectory.task)
    return tasks


def _strategy_steps(selection: str, steps: list[int]) -> list[int]:
    """`evenly:N` takes N kept checkpoints at equal distances in their order, the last always among them."""
    if selection == "last":
        return steps[-1:]
    if selection == "all":
        return steps
    count = min(int(selection.removeprefix("evenly:")), len(steps))
    return [steps[-(-len(steps) * (index + 1) // count) - 1] for index in range(count)]


def _early(checkpoints: dict[int, Row]) -> int:
    """The step nearest to a quarter of the run, ties to the earlier."""
    return min(checkpoints, key=lambda step: (abs(checkpoints[step]["progress"] - EARLY_PROGRESS), step))


def _limited(
    tasks: dict[int, set[str]], trajectories: list[_Trajectory], early: int | None, recipe: Recipe
) -> dict[int, set[str]]:
    """The early step added, and all but `max_checkpoints` dropped."""
    with_early = tasks if early is None else {**tasks, early: tasks.get(early, set())}
    limit = recipe.max_checkpoints or len(with_early)
    reserved = early if limit > 1 else None  # asked for by name: without a place of its own it would go first
    ranked = sorted(with_early, key=lambda step: (step == reserved, len(with_early[step]), step), reverse=True)
    kept = {step: set(with_early[step]) for step in ranked[:limit]}
    for trajectory in trajectories:
        if not any(trajectory.task in members for members in kept.values()):
            kept[trajectory.best(list(kept))["step"]].add(trajectory.task)
    return kept


def _alphas(tasks: dict[int, set[str]], rule: str) -> dict[int, float]:
    """Blending factors (paper, section 4): t_j / sum of t; or equal; or by the number of tasks."""
    raw = {step: {"steps": step, "uniform": 1, "tasks": len(members)}[rule] for step, members in tasks.items()}
    return {step: value / sum(raw.values()) for step, value in raw.items()}


def _assignment(trajectory: _Trajectory, tasks: dict[int, set[str]], checkpoints: dict[int, Row]) -> Row:
    best = trajectory.best(list(checkpoints))
    home = trajectory.best([step for step, members in tasks.items() if trajectory.task in members])
    return {
        "task": trajectory.task,
        "best_step": best["step"],
        "best_value": best[trajectory.metric],
        "metric": trajectory.metric,
        "checkpoint": checkpoints[home["step"]]["checkpoint"],
        "above_chance": trajectory.above_chance,
        "fallback": trajectory.fallback,
    }
