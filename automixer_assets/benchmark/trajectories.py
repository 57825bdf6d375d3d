"""Tasks over the steps of a run: which metric judges a task, and where the task is best (paper, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.settings import ChanceFallback, SelectionMetric

if TYPE_CHECKING:
    import numpy as np

LOWER_IS_BETTER = ("gold_nll",)
STEP_ZERO = "step 0 was left out: an untrained model scores documents at random"

Row = dict[str, Any]


@dataclass(frozen=True)
class Trajectory:
    """One task over the trained steps of a run, ascending, and the metric by which its best step is judged."""

    task: str
    rows: tuple[Row, ...]
    metric: str
    above_chance: bool
    fallback: str | None

    @property
    def sign(self) -> int:
        """+1 where a higher value is better."""
        return -1 if self.metric in LOWER_IS_BETTER else 1

    def best(self, steps: Sequence[int] | None = None) -> Row:
        """The best row, of these steps or of all; ties go to the earliest."""
        allowed = (row for row in self.rows if steps is None or row["step"] in steps)
        return min(allowed, key=lambda row: (-self.sign * row[self.metric], row["step"]))

    def values(self) -> np.ndarray:
        """The metric per step, turned so that higher is better: [steps]."""
        import numpy as np

        return self.sign * np.array([row[self.metric] for row in self.rows], dtype=np.float64)


@dataclass(frozen=True)
class Trajectories:
    """Every task of one run by name, the checkpoints by step, and what a person should know about the table."""

    tasks: tuple[Trajectory, ...]
    checkpoints: dict[int, Row]  # step -> checkpoint, step, progress
    warnings: tuple[str, ...]

    @property
    def steps(self) -> list[int]:
        return list(self.checkpoints)


def trajectories_of(benchmark: pl.DataFrame, metric: SelectionMetric, fallback: ChanceFallback) -> Trajectories:
    """The trajectories of a benchmark table, step 0 apart.

    A task without the metric (boolq, social_iqa and winogrande have no acc_norm) is judged by accuracy. One whose
    accuracy never exceeds chance by two standard errors has a best step by accident only (DESIGN, best step): it is
    judged by `fallback`, the NLL of the gold answers, unless that is `none`.

    Raises:
        AutomixerError: the table is empty, has no step above 0, or lacks a task at a checkpoint.
    """
    trained = benchmark.filter(pl.col("step") > 0)
    tasks = sorted(trained["task"].unique())
    return Trajectories(
        tasks=tuple(_trajectory(task, trained, metric, fallback) for task in tasks),
        checkpoints=_checkpoints(trained),
        warnings=(STEP_ZERO,) if len(trained) < len(benchmark) else (),
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


def _trajectory(task: str, trained: pl.DataFrame, metric: str, fallback: ChanceFallback) -> Trajectory:
    rows = tuple(trained.filter(pl.col("task") == task).sort("step").iter_rows(named=True))
    if any(row[metric] is None for row in rows):
        metric = "acc"
    above_chance = any(row["acc"] > row["chance"] + 2 * (row["acc_stderr"] or 0.0) for row in rows)
    if above_chance or fallback == "none" or metric == fallback:
        return Trajectory(task, rows, metric, above_chance, None)
    return Trajectory(task, rows, fallback, above_chance, fallback)
