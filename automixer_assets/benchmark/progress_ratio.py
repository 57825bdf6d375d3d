"""Where in a run each task is best, as a share of the run (paper, Table 1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from automixer_assets.benchmark.stability import selection_probability
from automixer_assets.benchmark.trajectories import trajectories_of
from automixer_assets.settings import ChanceFallback, SelectionMetric

PROGRESS_RATIOS_SCHEMA = {
    "proxy": pl.String,
    "parameters": pl.Int64,
    "selected_by": pl.String,
    "task": pl.String,
    "progress_ratio": pl.Float64,
    "best_step": pl.Int64,
    "total_steps": pl.Int64,
    "n_checkpoints": pl.Int64,
    "metric": pl.String,
    "best_value": pl.Float64,
    "above_chance": pl.Boolean,
    "fallback": pl.String,
    "selection_probability": pl.Float64,
}


@dataclass(frozen=True)
class EvaluatedProxy:
    """A proxy with its benchmark table (`benchmark`, `items`: docs/tables.md) and its size."""

    name: str
    parameters: int
    benchmark: pl.DataFrame
    items: pl.DataFrame


def progress_ratios(
    proxies: Iterable[EvaluatedProxy], rules: Iterable[tuple[SelectionMetric, ChanceFallback]]
) -> pl.DataFrame:
    """A row per proxy (smallest first), rule and task: the step where the task is best in percent of the whole run.

    A rule is the metric that a best step is chosen by, and what it falls back on near chance.
    """
    asked = sorted(set(rules))
    rows = [
        row
        for proxy in sorted(proxies, key=lambda proxy: (proxy.parameters, proxy.name))
        for metric, fallback in asked
        for row in _rows(proxy, metric, fallback)
    ]
    return pl.DataFrame(rows, schema=PROGRESS_RATIOS_SCHEMA)


def rule_name(metric: str, fallback: str) -> str:
    """`acc`, or `acc (no guard)` where tasks near chance are judged by it too."""
    return metric if fallback != "none" or metric == "gold_nll" else f"{metric} (no guard)"


def _rows(proxy: EvaluatedProxy, metric: SelectionMetric, fallback: ChanceFallback) -> list[dict[str, object]]:
    run = trajectories_of(proxy.benchmark, metric, fallback)
    rows = []
    for trajectory in run.tasks:
        best = trajectory.best()
        rows.append(
            {
                "proxy": proxy.name,
                "parameters": proxy.parameters,
                "selected_by": rule_name(metric, fallback),
                "task": trajectory.task,
                "progress_ratio": 100 * best["progress"],
                "best_step": best["step"],
                "total_steps": round(best["step"] / best["progress"]),
                "n_checkpoints": len(run.steps),
                "metric": trajectory.metric,
                "best_value": best[trajectory.metric],
                "above_chance": trajectory.above_chance,
                "fallback": trajectory.fallback,
                "selection_probability": selection_probability(trajectory, proxy.items),
            }
        )
    return rows
