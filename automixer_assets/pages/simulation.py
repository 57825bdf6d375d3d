"""Pages of the simulation assets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.benchmark.runner import read_left_out
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata
from automixer_assets.proxy.checkpoints import list_checkpoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def show_proxy_run(artifact: Artifact) -> Metadata:
    training = pl.read_parquet(artifact.path / "training.parquet")
    steps = list(list_checkpoints(artifact.path))
    smooth = training["loss"].rolling_mean(max(1, training.height // 60), min_samples=1)

    def draw(axes: Axes) -> None:
        axes.plot(training["tokens"], training["loss"], color=metadata.PALETTE[0], alpha=0.25, linewidth=0.6)
        axes.plot(training["tokens"], smooth, color=metadata.PALETTE[0])
        for step in steps:
            axes.axvline(training["tokens"][step - 1], color="#999999", linewidth=0.5)
        axes.set_xlabel("tokens (grey lines: kept checkpoints)")
        axes.set_ylabel("training loss, nats per token")

    return {
        "loss over training": f"{smooth[0]:.2f} {metadata.sparkline(smooth.to_list())} {smooth[-1]:.2f}",
        "training curve": metadata.plot(draw),
        "final loss (mean of last 50 steps)": metadata.number(training["loss"].tail(50).mean()),
        "steps": training.height,
        "tokens": int(training["tokens"][-1]),
        "tokens per second": round(int(training["tokens"][-1]) / max(artifact.seconds, 1e-9)),
        "checkpoints": len(steps),
        "kept steps": ", ".join(map(str, steps)),
    }


def show_benchmark_table(artifact: Artifact) -> Metadata:
    table = pl.read_parquet(artifact.path / "benchmark.parquet")
    return {
        "dagster/row_count": table.height,
        "best step per task": metadata.table(_best_steps(table)),
        "items left out": read_left_out(artifact.path).height,
        "accuracy": metadata.table(benchmark_grid(table, "acc", best="max")),
        "gold-answer NLL": metadata.table(benchmark_grid(table, "gold_nll", best="min")),
        "accuracy trajectories (ring: best step)": metadata.plot(
            lambda axes: _draw_trajectories(axes, table, "acc", "max"), height=4.2
        ),
        "gold-answer NLL trajectories (ring: best step)": metadata.plot(
            lambda axes: _draw_trajectories(axes, table, "gold_nll", "min"), height=4.2
        ),
    }


def _best_steps(table: pl.DataFrame) -> pl.DataFrame:
    """Per task where accuracy peaks (ties to the earliest), and the whole trajectory as a line of text."""
    rows = []
    for (task,), group in table.sort("step").group_by("task", maintain_order=True):
        best = group.row(int(group["acc"].arg_max() or 0), named=True)
        answer = group.row(int(group["gold_nll"].arg_min() or 0), named=True)
        rows.append(
            {
                "task": task,
                "best step": best["step"],
                "accuracy there": f"{best['acc']:.3f} ± {best['acc_stderr'] or 0:.3f}",
                "chance": f"{best['chance']:.3f}",
                "accuracy over steps": metadata.sparkline(group["acc"].to_list(), width=group.height),
                "lowest gold-answer NLL at": answer["step"],
            }
        )
    return pl.DataFrame(rows)


def benchmark_grid(table: pl.DataFrame, metric: str, best: str) -> pl.DataFrame:
    """Tasks x checkpoints with the best step of each task marked `*` (ties to the earliest)."""
    rows = []
    for (task,), group in table.sort("step").group_by("task", maintain_order=True):
        values = group[metric].to_list()
        marked = values.index(max(values) if best == "max" else min(values))
        cells = [f"{value:.3f}{'*' if index == marked else ''}" for index, value in enumerate(values)]
        chance = group["chance"][0]
        rows.append({"task": task, "chance": f"{chance:.2f}", **dict(zip(map(str, group["step"]), cells, strict=True))})
    return pl.DataFrame(rows)


def _draw_trajectories(axes: Axes, table: pl.DataFrame, metric: str, best: str) -> None:
    for index, ((task,), group) in enumerate(table.sort("step").group_by("task", maintain_order=True)):
        color = metadata.PALETTE[index % len(metadata.PALETTE)]
        values = group[metric]
        marked = values.arg_max() if best == "max" else values.arg_min()
        assert marked is not None
        axes.plot(group["step"], values, color=color, label=str(task), linewidth=1.2)
        axes.plot([group["step"][marked]], [values[marked]], "o", color=color, markersize=9, fillstyle="none")
    axes.set_xlabel("training step")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7, ncols=2)


def show_proxy_checkpoint(artifact: Artifact) -> Metadata:
    files = pl.DataFrame({"file": list(artifact.files), "sha256": [sha[:16] for sha in artifact.files.values()]})
    return {
        "files": metadata.table(files),
        "bytes": sum((artifact.path / name).stat().st_size for name in artifact.files),
    }
