"""What other items would have selected: how often would another checkpoint have won, and with which alphas?

Every resample of the tasks' items goes through the recipe's own selection: best steps, clusters and alphas are all
found again. What is held fixed is the metric that judges each task, so a task near chance keeps its fallback.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import polars as pl

from automixer_assets.benchmark.clustering import Cosines
from automixer_assets.benchmark.selection import Chosen, choose
from automixer_assets.benchmark.stability import resampled_values, winning_shares
from automixer_assets.benchmark.trajectories import Row, Trajectories, Trajectory, trajectories_of
from automixer_assets.settings import Recipe

RESAMPLES = 400
"""Selections made again; where tasks are clustered each takes some 15 ms."""
WINNERS_SCHEMA = {
    "task": pl.String,
    "step": pl.Int64,
    "checkpoint": pl.String,
    "value": pl.Float64,
    "probability": pl.Float64,
    "chosen": pl.Boolean,
}
REDRAWN_SCHEMA = {
    "selection": pl.Int64,
    "share": pl.Float64,
    "chosen": pl.Boolean,
    "checkpoint": pl.String,
    "step": pl.Int64,
    "alpha": pl.Float64,
    "tasks": pl.List(pl.String),
}


def winners(benchmark: pl.DataFrame, recipe: Recipe, items: pl.DataFrame) -> pl.DataFrame:
    """A row per task and step that wins in some resample, and the task's best step; by task, likeliest first."""
    run = trajectories_of(benchmark, recipe.selection_metric, recipe.chance_fallback)
    rows = [row for trajectory in run.tasks for row in _winners(trajectory, run, items)]
    return pl.DataFrame(rows, schema=WINNERS_SCHEMA).sort(
        "task", "probability", "step", descending=[False, True, False], maintain_order=True
    )


def _winners(trajectory: Trajectory, run: Trajectories, items: pl.DataFrame) -> list[Row]:
    best = trajectory.best()["step"]
    values = {row["step"]: row[trajectory.metric] for row in trajectory.rows}
    return [
        {
            "task": trajectory.task,
            "step": step,
            "checkpoint": run.checkpoints[step]["checkpoint"],
            "value": values[step],
            "probability": share,
            "chosen": step == best,
        }
        for step, share in winning_shares(trajectory, items).items()
        if share or step == best
    ]


def redrawn_selections(
    benchmark: pl.DataFrame,
    recipe: Recipe,
    items: pl.DataFrame,
    cosines: Cosines | None = None,
    resamples: int = RESAMPLES,
) -> pl.DataFrame:
    """A row per selection that some resample makes and checkpoint in it; the likeliest selection is number 0.

    `chosen` marks the selection that the items at hand make. Two selections are the same when they take the same steps
    for the same tasks.
    """
    run = trajectories_of(benchmark, recipe.selection_metric, recipe.chance_fallback)
    drawn = [resampled_values(trajectory, items, resamples) for trajectory in run.tasks]  # tasks of [steps, resamples]
    found: Counter[Chosen] = Counter()
    for number in range(resamples):
        tasks = tuple(_with_values(each, values[:, number]) for each, values in zip(run.tasks, drawn, strict=True))
        found[choose(replace(run, tasks=tasks), recipe, cosines)] += 1
    actual = choose(run, recipe, cosines)
    rows = [
        {"selection": number, "share": count / resamples, "chosen": chosen == actual, **vars(each)}
        | {"checkpoint": run.checkpoints[each.step]["checkpoint"]}
        for number, (chosen, count) in enumerate(sorted(found.items(), key=lambda item: (-item[1], repr(item[0]))))
        for each in chosen.checkpoints
    ]
    return pl.DataFrame(rows, schema=REDRAWN_SCHEMA)


def _with_values(trajectory: Trajectory, values: object) -> Trajectory:
    """The same trajectory with other values of its metric (higher is better in `values`): [steps]."""
    import numpy as np

    turned = trajectory.sign * np.asarray(values)
    rows = tuple({**row, trajectory.metric: float(value)} for row, value in zip(trajectory.rows, turned, strict=True))
    return replace(trajectory, rows=rows)


def alpha_intervals(redrawn: pl.DataFrame, level: float = 0.95) -> pl.DataFrame:
    """A row per checkpoint that some resample selects: how often, and the interval of its alpha, 0 where it is not.

    Columns: checkpoint, step, alpha (null where the items at hand do not select it), probability, alpha_low and
    alpha_high.
    """
    import numpy as np

    shares = redrawn.unique("selection", maintain_order=True).select("selection", "share")
    tail, rows = (1 - level) / 2, []
    for (checkpoint, step), own in redrawn.group_by("checkpoint", "step", maintain_order=True):
        alphas = shares.join(own.select("selection", "alpha"), on="selection", how="left").fill_null(0.0)
        low, high = np.quantile(
            alphas["alpha"].to_numpy(),
            [tail, 1 - tail],
            weights=alphas["share"].to_numpy(),
            method="inverted_cdf",
        )
        at_hand = own.filter("chosen")["alpha"].to_list()
        rows.append(
            {
                "checkpoint": checkpoint,
                "step": step,
                "alpha": at_hand[0] if at_hand else None,
                "probability": float(own["share"].sum()),
                "alpha_low": float(low),
                "alpha_high": float(high),
            }
        )
    schema = {
        "checkpoint": pl.String,
        "step": pl.Int64,
        **dict.fromkeys(("alpha", "probability", "alpha_low", "alpha_high"), pl.Float64),
    }
    return pl.DataFrame(rows, schema=schema).sort("step")
