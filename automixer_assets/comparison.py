"""Comparing mixtures: per task and metric the mean and spread over seeds, and the paired difference to a baseline."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from automixer_assets.errors import AutomixerError

METRICS = ("acc", "gold_nll")
MEAN_TASK = "mean"


def compare(runs: Mapping[str, pl.DataFrame], baseline: str) -> pl.DataFrame:
    """One row per mixture, task and metric; task `mean` is the macro mean over tasks, computed per seed.

    Args:
        runs: mixture -> benchmark rows (seed, task, acc, gold_nll), the same seeds and tasks in each.
        baseline: the mixture that differences are taken to, paired by seed.

    Returns:
        mixture, task, metric, mean, sd, n_seeds, difference, difference_stderr. Spreads are sample standard deviations
        over seeds (null for a single seed); differences of the baseline to itself are 0.
    """
    _require_same_cells(runs, baseline)
    scores = pl.concat(_scores(table).with_columns(pl.lit(name).alias("mixture")) for name, table in runs.items())
    reference = scores.filter(pl.col("mixture") == baseline).select("seed", "task", "metric", reference="value")
    paired = scores.join(reference, on=["seed", "task", "metric"], how="left", maintain_order="left")
    difference = pl.col("value") - pl.col("reference")
    return paired.group_by("mixture", "task", "metric", maintain_order=True).agg(
        pl.col("value").mean().alias("mean"),
        pl.col("value").std().alias("sd"),
        pl.len().cast(pl.Int64).alias("n_seeds"),
        difference.mean().alias("difference"),
        (difference.std() / pl.len().sqrt()).alias("difference_stderr"),
    )


def _require_same_cells(runs: Mapping[str, pl.DataFrame], baseline: str) -> None:
    """Differences are paired: every mixture needs the baseline's seeds and tasks, once each."""
    cells = {name: sorted(table.select("seed", "task").iter_rows()) for name, table in runs.items()}
    for name, found in cells.items():
        if found != cells[baseline]:
            raise AutomixerError(
                f"mixture {name!r} was trained with other seeds or tasks than the baseline {baseline!r}: "
                "materialise target_runs of both again"
            )


def _scores(table: pl.DataFrame) -> pl.DataFrame:
    """Long form: seed, task, metric, value, with the macro mean appended as a task of its own."""
    long = table.unpivot(METRICS, index=["seed", "task"], variable_name="metric", value_name="value")
    means = long.group_by("seed", "metric", maintain_order=True).agg(pl.col("value").mean())
    return pl.concat([long, means.with_columns(pl.lit(MEAN_TASK).alias("task")).select(long.columns)])
