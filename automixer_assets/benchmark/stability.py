"""How sure a best step is: in how many resamples of the task's items would the same step have won?"""

from __future__ import annotations

import polars as pl

from automixer_assets.benchmark.trajectories import Trajectory

RESAMPLES = 1000
SEED = 0


def selection_probability(trajectory: Trajectory, items: pl.DataFrame, resamples: int = RESAMPLES) -> float:
    """The share of resamples of the items in which the best step stays the best, ties to the earliest.

    The spread is the one that lm-eval's standard errors describe: that of the drawn items. All steps answer the same
    items, so items are drawn for all steps together; independent errors per step would overstate the doubt.

    Args:
        trajectory: the task, its trained steps and its metric.
        items: a row per checkpoint, task and item (`items.parquet`) of the same run.
    """
    import numpy as np

    steps = [row["step"] for row in trajectory.rows]
    own = items.filter((pl.col("task") == trajectory.task) & pl.col("step").is_in(steps)).sort("step", "doc_index")
    values = trajectory.sign * own[trajectory.metric].to_numpy().reshape(len(steps), -1)  # [steps, items]
    n_items = values.shape[1]
    drawn = np.random.default_rng(SEED).multinomial(n_items, np.full(n_items, 1 / n_items), size=resamples)
    winners = (values @ drawn.T.astype(np.float64)).argmax(axis=0)  # [resamples]; the first of equals
    return float(np.mean(winners == steps.index(trajectory.best()["step"])))
