"""Pages of the evaluation assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.benchmark.runner import read_left_out
from automixer_assets.comparison import MEAN_TASK
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def show_target_runs(artifact: Artifact) -> Metadata:
    benchmark = pl.read_parquet(artifact.path / "benchmark.parquet")
    curves = pl.read_parquet(artifact.path / "curves.parquet")
    results = (
        benchmark.group_by("task", maintain_order=True)
        .agg(
            pl.col("chance").first(),
            pl.col("acc").mean().alias("accuracy, mean"),
            pl.col("acc").std().alias("accuracy, sd"),
            pl.col("gold_nll").mean().alias("gold-answer NLL, mean"),
            pl.col("gold_nll").std().alias("gold-answer NLL, sd"),
        )
        .sort("task")
    )

    def draw(axes: Axes) -> None:
        for index, ((seed,), curve) in enumerate(curves.group_by("seed", maintain_order=True)):
            smooth = curve["loss"].rolling_mean(max(1, curve.height // 50), min_samples=1)
            axes.plot(
                curve["tokens"].to_list(), smooth.to_list(), color=metadata.PALETTE[index % 10], label=f"seed {seed}"
            )
        axes.set_xlabel("tokens")
        axes.set_ylabel("training loss, nats per token")
        axes.legend(fontsize=8)

    return {
        "seeds": benchmark["seed"].n_unique(),
        "accuracy, mean over tasks and seeds": metadata.number(benchmark["acc"].mean()),
        "gold-answer NLL, mean over tasks and seeds": metadata.number(benchmark["gold_nll"].mean()),
        "results on the final items": metadata.table(results),
        "items left out": read_left_out(artifact.path).height,
        "training curves": metadata.plot(draw),
    }


def show_comparison_table(artifact: Artifact, runs: dict[str, Artifact], baseline: str) -> Metadata:
    comparison = pl.read_parquet(artifact.path / "comparison.parquet")
    return {
        "baseline": baseline,
        "mean over tasks": metadata.table(mean_grid(comparison, baseline)),
        "accuracy difference to the baseline": metadata.plot(
            lambda axes: _draw_differences(axes, comparison, baseline), height=4.0
        ),
        "along training, mean over tasks": metadata.plot(lambda axes: _draw_trajectories(axes, runs)),
        "accuracy": metadata.table(comparison_grid(comparison, "acc", baseline)),
        "gold-answer NLL": metadata.table(comparison_grid(comparison, "gold_nll", baseline)),
        "gold-answer bits per byte": metadata.table(comparison_grid(comparison, "gold_bits_per_byte", baseline)),
        "seeds": int(comparison["n_seeds"].max()),  # pyright: ignore[reportArgumentType]
        "mixtures": ", ".join(runs),
    }


def mean_grid(comparison: pl.DataFrame, baseline: str) -> pl.DataFrame:
    """How each mixture does on average over tasks, and how sure its difference to the baseline is."""
    means = comparison.filter(pl.col("task").str.starts_with(MEAN_TASK))
    rows = [
        {
            "mixture": row["mixture"],
            "metric": row["metric"],
            "over": row["task"].removeprefix(MEAN_TASK).strip() or "all tasks",
            "mean ± sd": f"{row['mean']:.3f} ± {_spread(row['sd'])}",
            f"minus {baseline} ± stderr": f"{row['difference']:+.3f} ± {_spread(row['difference_stderr'])}",
            "95 %, seeds and items": _interval(row["interval_low"], row["interval_high"]),
            "p, t test": _p_value(row["p_value"]),
            "p, corrected": _p_value(row["p_holm"]),
        }
        for row in means.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def _p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def comparison_grid(comparison: pl.DataFrame, metric: str, baseline: str) -> pl.DataFrame:
    """Tasks x mixtures as `mean ± sd`, with the paired difference to the baseline and its standard error."""
    rows: dict[str, dict[str, str]] = {}
    for row in comparison.filter(pl.col("metric") == metric).iter_rows(named=True):
        cells = rows.setdefault(row["task"], {"task": row["task"]})
        cells[row["mixture"]] = f"{row['mean']:.3f} ± {_spread(row['sd'])}"
        if row["mixture"] != baseline:
            cells[f"{row['mixture']} - {baseline}"] = f"{row['difference']:+.3f} ± {_spread(row['difference_stderr'])}"
    return pl.DataFrame(list(rows.values()))


def _spread(value: float | None) -> str:
    """A spread over seeds; a single seed has none."""
    return "–" if value is None else f"{value:.3f}"


def _draw_trajectories(axes: Axes, runs: dict[str, Artifact]) -> None:
    """Gold-answer NLL of every mixture at each evaluated step (paper, Figure 4): mean and range over seeds."""
    for index, (mixture, run) in enumerate(runs.items()):
        results = pl.read_parquet(run.path / "trajectory.parquet")
        per_seed = results.group_by("seed", "step").agg(pl.col("gold_nll").mean())
        steps = per_seed.group_by("step").agg(
            pl.col("gold_nll").mean().alias("mean"),
            pl.col("gold_nll").min().alias("low"),
            pl.col("gold_nll").max().alias("high"),
        )
        steps, color = steps.sort("step"), metadata.PALETTE[index % 10]
        axes.plot(steps["step"].to_list(), steps["mean"].to_list(), marker="o", color=color, label=mixture)
        axes.fill_between(
            steps["step"].to_list(), steps["low"].to_list(), steps["high"].to_list(), color=color, alpha=0.15
        )
    axes.set_xlabel("step")
    axes.set_ylabel("gold-answer NLL, nats")
    axes.legend(fontsize=8)


def _draw_differences(axes: Axes, comparison: pl.DataFrame, baseline: str) -> None:
    rows = comparison.filter((pl.col("metric") == "acc") & (pl.col("mixture") != baseline))
    tasks = rows["task"].unique(maintain_order=True).to_list()
    for index, ((mixture,), group) in enumerate(rows.group_by("mixture", maintain_order=True)):
        heights = [position + 0.12 * index for position in range(len(tasks))]
        errors = group["difference_stderr"].fill_null(0).to_list()
        color = metadata.PALETTE[index % 10]
        axes.errorbar(group["difference"].to_list(), heights, xerr=errors, fmt="o", color=color, label=str(mixture))
    axes.axvline(0, color="#333333", linewidth=1)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.set_xlabel(f"accuracy minus {baseline}, paired by seed (bars: standard error)")
    axes.legend(fontsize=8)
