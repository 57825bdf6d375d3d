"""How sure is a best step? What resamples of a task's items would have made of its trajectory.

The spread is the one that lm-eval's standard errors describe: that of the drawn items. All steps answer the same items,
so items are drawn for all steps together; independent errors per step would overstate the doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from automixer_assets.benchmark.trajectories import Trajectory

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 1000
SEED = 0


def resampled_values(trajectory: Trajectory, items: pl.DataFrame, resamples: int = RESAMPLES) -> np.ndarray:
    """The task's metric at every step, by resample, turned so that higher is better: [steps, resamples].

    Every task draws by a seed of its own.

    Args:
        trajectory: the task, its trained steps and its metric.
        items: a row per checkpoint, task and item (`items.parquet`) of the same run.
    """
    import numpy as np

    steps = [row["step"] for row in trajectory.rows]
    own = items.filter((pl.col("task") == trajectory.task) & pl.col("step").is_in(steps)).sort("step", "doc_index")
    values = trajectory.sign * own[trajectory.metric].to_numpy().reshape(len(steps), -1)  # [steps, items]
    n_items = values.shape[1]
    random = np.random.default_rng([SEED, *trajectory.task.encode()])
    drawn = random.multinomial(n_items, np.full(n_items, 1 / n_items), size=resamples)
    return values @ drawn.T.astype(np.float64) / n_items


def winning_shares(trajectory: Trajectory, items: pl.DataFrame, resamples: int = RESAMPLES) -> dict[int, float]:
    """Step -> the share of resamples in which it is the best, ties to the earliest; steps that never are have 0."""
    import numpy as np

    winners = resampled_values(trajectory, items, resamples).argmax(axis=0)  # [resamples]; the first of equals
    counts = np.bincount(winners, minlength=len(trajectory.rows))
    return {row["step"]: int(count) / resamples for row, count in zip(trajectory.rows, counts, strict=True)}


def selection_probability(trajectory: Trajectory, items: pl.DataFrame, resamples: int = RESAMPLES) -> float:
    """The share of resamples of the items in which the best step stays the best."""
    return winning_shares(trajectory, items, resamples)[trajectory.best()["step"]]
