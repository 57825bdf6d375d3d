"""Comparing mixtures: per task and metric the mean and spread over seeds, and the paired difference to a baseline.

How sure a difference is: its standard error and a paired t test over seeds, whose p-values are also given corrected
for the number of mixtures compared (Holm 1979), and a bootstrap interval in which seeds and items are both resampled,
since all seeds answer the same items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from automixer_assets.errors import AutomixerError

METRICS = ("acc", "gold_nll", "gold_bits_per_byte")
MEAN_TASK = "mean"
REPLICATES = 1000
LEVEL = 0.95

CELL = ("task", "metric")


def compare(
    runs: Mapping[str, pl.DataFrame],
    baseline: str,
    *,
    items: Mapping[str, pl.DataFrame] | None = None,
    set_aside: Sequence[str] = (),
) -> pl.DataFrame:
    """One row per mixture, task and metric; task `mean` is the macro mean over tasks, computed per seed.

    Args:
        runs: mixture -> benchmark rows (seed, task and `METRICS`), the same tasks in each.
        baseline: the mixture that differences are taken to, paired by seed; it has every seed that another has.
        items: mixture -> rows per item (seed, task, item_hash, acc, gold_nll, gold_bytes) behind `runs`; without them
            there are no bootstrap intervals.
        set_aside: tasks that a second macro mean leaves out (`mean_task`).

    Returns:
        mixture, task, metric, mean, sd, n_seeds, difference, difference_stderr, p_value, p_holm, interval_low,
        interval_high. Spreads and p-values need two seeds and are null otherwise; of the baseline against itself
        differences are 0 and the rest null.
    """
    _require_paired(runs, baseline)
    tasks = next(iter(runs.values()))["task"].unique(maintain_order=True).to_list()
    means = macro_means(tasks, set_aside)
    scores = pl.concat(
        _scores(table, means).with_columns(pl.lit(name).alias("mixture")) for name, table in runs.items()
    )
    reference = scores.filter(pl.col("mixture") == baseline).select("seed", *CELL, reference="value")
    paired = scores.join(reference, on=["seed", *CELL], how="left", maintain_order="left")
    paired = paired.with_columns(difference=pl.col("value") - pl.col("reference"))
    table = paired.group_by("mixture", *CELL, maintain_order=True).agg(
        pl.col("value").mean().alias("mean"),
        pl.col("value").std().alias("sd"),
        pl.len().cast(pl.Int64).alias("n_seeds"),
        pl.col("difference").mean(),
        (pl.col("difference").std() / pl.len().sqrt()).alias("difference_stderr"),
    )
    table = _with_p_values(table, baseline)
    intervals = bootstrap_intervals(items or {}, baseline, means)
    return table.join(intervals, on=["mixture", *CELL], how="left", maintain_order="left")


def mean_task(set_aside: Sequence[str]) -> str:
    """What the second macro mean is called."""
    return f"{MEAN_TASK} without {', '.join(set_aside)}"


def macro_means(tasks: Sequence[str], set_aside: Sequence[str]) -> dict[str, list[str]]:
    """Name of a macro mean -> its tasks."""
    means = {MEAN_TASK: list(tasks)}
    if left := [task for task in tasks if task in set_aside]:
        means[mean_task(left)] = [task for task in tasks if task not in left]
    return {name: members for name, members in means.items() if members}


def _require_paired(runs: Mapping[str, pl.DataFrame], baseline: str) -> None:
    """Differences are paired: a mixture needs the baseline's tasks, and no seed that the baseline lacks."""
    tasks, seeds = (set(runs[baseline][column]) for column in ("task", "seed"))
    for name, table in runs.items():
        cells = sorted(table.select("seed", "task").iter_rows())
        if cells != sorted((seed, task) for seed in set(table["seed"]) & seeds for task in tasks):
            raise AutomixerError(
                f"mixture {name!r} was trained with other seeds or tasks than the baseline {baseline!r}: "
                "materialise target_runs of both again"
            )


def _scores(table: pl.DataFrame, means: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Long form: seed, task, metric, value, with macro means appended as tasks of their own."""
    long = table.unpivot(METRICS, index=["seed", "task"], variable_name="metric", value_name="value")
    averaged = [
        long.filter(pl.col("task").is_in(list(tasks)))
        .group_by("seed", "metric", maintain_order=True)
        .agg(pl.col("value").mean())
        .with_columns(pl.lit(name).alias("task"))
        .select(long.columns)
        for name, tasks in means.items()
    ]
    return pl.concat([long, *averaged])


def _with_p_values(table: pl.DataFrame, baseline: str) -> pl.DataFrame:
    """Two-sided paired t test over seeds; `p_holm` corrects for the mixtures that are compared in one cell."""
    from scipy.stats import t

    ratio = table["difference"] / table["difference_stderr"]
    p = 2 * t.sf(np.abs(ratio.cast(pl.Float64).fill_null(math.nan).to_numpy()), df=table["n_seeds"].to_numpy() - 1)
    tested = (pl.col("mixture") != baseline) & pl.col("difference_stderr").is_not_null()
    table = table.with_columns(pl.Series("p_value", p)).with_columns(
        p_value=pl.when(tested & pl.col("p_value").is_finite()).then(pl.col("p_value"))
    )
    rank = pl.col("p_value").rank("ordinal").over(CELL)
    scaled = (pl.col("p_value") * (pl.col("p_value").count().over(CELL) - rank + 1)).clip(upper_bound=1.0)
    ordered = scaled.cum_max().over(CELL, order_by="p_value")
    return table.with_columns(p_holm=pl.when(pl.col("p_value").is_not_null()).then(ordered))


INTERVAL_SCHEMA = {
    "mixture": pl.String,
    "task": pl.String,
    "metric": pl.String,
    "interval_low": pl.Float64,
    "interval_high": pl.Float64,
}


def bootstrap_intervals(
    items: Mapping[str, pl.DataFrame], baseline: str, means: Mapping[str, Sequence[str]], *, seed: int = 0
) -> pl.DataFrame:
    """95 % percentile intervals of the difference to the baseline, seeds and each task's items resampled together.

    Returns:
        mixture, task, metric, interval_low, interval_high; no rows for the baseline.
    """
    rows = []
    for name, table in items.items():
        if name == baseline:
            continue
        reference = _replicates(items[baseline].filter(pl.col("seed").is_in(table["seed"].unique().implode())), seed)
        differences = {cell: values - reference[cell] for cell, values in _replicates(table, seed).items()}
        for mean, tasks in means.items():
            for metric in METRICS:
                differences[mean, metric] = np.mean([differences[task, metric] for task in tasks], axis=0)
        for (task, metric), values in differences.items():
            low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            rows.append((name, task, metric, float(low), float(high)))
    return pl.DataFrame(rows, INTERVAL_SCHEMA, orient="row")


def _replicates(items: pl.DataFrame, seed: int) -> dict[tuple[str, str], np.ndarray]:
    """(task, metric) -> the metric in every replicate, [REPLICATES]; the same draws for every mixture."""
    random = np.random.default_rng(seed)
    n_seeds = items["seed"].n_unique()
    seeds = random.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=REPLICATES)  # [R, seeds]
    found = {}
    for (task,), rows in items.sort("task", "seed", "item_hash").group_by("task", maintain_order=True):
        n_items = rows.height // n_seeds
        drawn = random.multinomial(n_items, np.full(n_items, 1 / n_items), size=REPLICATES)  # [R, items]
        sums = {
            column: ((seeds @ rows[column].to_numpy().reshape(n_seeds, n_items)) * drawn).sum(axis=1)
            for column in ("acc", "gold_nll", "gold_bytes")
        }
        found[str(task), "acc"] = sums["acc"] / (n_seeds * n_items)
        found[str(task), "gold_nll"] = sums["gold_nll"] / (n_seeds * n_items)
        found[str(task), "gold_bits_per_byte"] = sums["gold_nll"] / math.log(2) / np.maximum(sums["gold_bytes"], 1)
    return found
