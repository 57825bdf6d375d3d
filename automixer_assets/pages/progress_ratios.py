"""Pages of Table 1 and of task similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SURE = 0.5
"""A best step that wins fewer resamples than this is marked as unsure."""
MAX_PROXIES = 6


def show_progress_ratios(artifact: Artifact, tables: Mapping[str, Artifact]) -> Metadata:
    ratios = pl.read_parquet(artifact.path / "progress_ratios.parquet")
    rules = ratios["selected_by"].unique(maintain_order=True).to_list()
    shown: Metadata = {}
    for rule in rules:
        own = ratios.filter(pl.col("selected_by") == rule)
        shown[f"best step in % of the run, by {rule}"] = metadata.table(progress_ratio_grid(own))
        shown[f"where skills peak, by {rule}"] = metadata.plot(lambda axes, own=own: _draw_ratios(axes, own))
    for proxy in ratios["proxy"].unique(maintain_order=True).to_list()[:MAX_PROXIES]:
        benchmark = pl.read_parquet(tables[proxy].path / "benchmark.parquet")
        for rule in rules:
            own = ratios.filter((pl.col("selected_by") == rule) & (pl.col("proxy") == proxy))
            shown[f"trajectories of {proxy} (ring: best step by {rule})"] = metadata.plot(
                lambda axes, own=own, benchmark=benchmark: _draw_trajectories(axes, benchmark, own), height=4.2
            )
    shown["marks"] = f"* never above chance + 2 stderr; ? wins under {SURE:.0%} of resamples of the items"
    shown["how sure each best step is"] = metadata.table(
        ratios.select("proxy", "selected_by", "task", "best_step", "selection_probability", "n_checkpoints")
    )
    return {"dagster/row_count": ratios.height, **shown}


def progress_ratio_grid(ratios: pl.DataFrame) -> pl.DataFrame:
    """Table 1: a row per task, a column per proxy, smallest first; `*` at chance, `?` not sure (see `marks`)."""
    columns: dict[str, dict[str, str]] = {}
    for row in ratios.iter_rows(named=True):
        columns.setdefault(f"{row['proxy']} ({_size(row['parameters'])})", {})[row["task"]] = _cell(row)
    tasks = ratios["task"].unique(maintain_order=True).to_list()
    cells = {proxy: [column.get(task, "–") for task in tasks] for proxy, column in columns.items()}
    return pl.DataFrame({"task": tasks, **cells})


def _cell(row: dict[str, object]) -> str:
    unsure = float(str(row["selection_probability"])) < SURE
    return f"{row['progress_ratio']:.0f}{'' if row['above_chance'] else '*'}{'?' if unsure else ''}"


def _size(parameters: int) -> str:
    """`160M`, in the units of a model's name."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)


def _draw_ratios(axes: Axes, ratios: pl.DataFrame) -> None:
    tasks = ratios["task"].unique(maintain_order=True).to_list()
    proxies = ratios["proxy"].unique(maintain_order=True).to_list()
    for index, proxy in enumerate(proxies):
        own = ratios.filter(pl.col("proxy") == proxy)
        shift = (index - (len(proxies) - 1) / 2) * 0.6 / max(1, len(proxies))
        axes.plot(
            own["progress_ratio"],
            [tasks.index(task) + shift for task in own["task"]],
            "o",
            color=metadata.PALETTE[index % len(metadata.PALETTE)],
            label=f"{proxy} ({_size(int(own['parameters'][0]))})",
        )
    axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 104)
    axes.set_xlabel("best step, % of the run")
    axes.legend(fontsize=7)


def _draw_trajectories(axes: Axes, benchmark: pl.DataFrame, ratios: pl.DataFrame) -> None:
    """A strip per task from its worst to its best value, up is better: tasks differ in metric and range."""
    for index, best in enumerate(ratios.iter_rows(named=True)):
        own = benchmark.filter((pl.col("task") == best["task"]) & (pl.col("step") > 0)).sort("step")
        turned = own[best["metric"]].to_numpy() * (-1 if best["metric"] == "gold_nll" else 1)
        strip = len(ratios) - 1 - index + 0.75 * (turned - turned.min()) / ((turned.max() - turned.min()) or 1.0)
        color = metadata.PALETTE[index % len(metadata.PALETTE)]
        axes.plot(100 * own["progress"], strip, color=color, linewidth=1.2)
        at = own["step"].to_list().index(best["best_step"])
        axes.plot([best["progress_ratio"]], [strip[at]], "o", color=color, markersize=9, fillstyle="none")
    labels = [f"{row['task']} ({row['metric']})" for row in ratios.iter_rows(named=True)]
    axes.set_yticks([len(labels) - 1 - index + 0.375 for index in range(len(labels))], labels, fontsize=8)
    axes.set_xlabel("% of the run")


def show_task_gradients(artifact: Artifact) -> Metadata:
    cosines = pl.read_parquet(artifact.path / "cosines.parquet")
    grid = cosines.with_columns(pl.col("cosine").round(3)).pivot("other", index="task", values="cosine")
    return {"cosine of the tasks' mean gradients": metadata.table(grid)}
