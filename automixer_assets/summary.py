"""Tables for a person at a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from automixer_assets.metadata import format_cell
from automixer_assets.mixture.manifest import Manifest
from automixer_assets.pages.evaluation import comparison_grid
from automixer_assets.pages.mixture import contrast_note, manifest_groups
from automixer_assets.pages.simulation import benchmark_grid


def frame_table(frame: pl.DataFrame, title: str, caption: str = "") -> Table:
    """A frame as a table; columns of numbers are right-aligned, marked cells are bold."""
    table = Table(
        title=title, caption=caption or None, title_justify="left", caption_justify="left", title_style="bold"
    )
    for name, dtype in frame.schema.items():
        numeric = dtype.is_numeric() or name.isdigit()
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name.isdigit())
    for row in frame.iter_rows():
        cells = [format_cell(value) for value in row]
        table.add_row(*(Text(cell, style="bold green" if cell.endswith("*") else "") for cell in cells))
    return table


def benchmark_panel(benchmark: pl.DataFrame) -> RenderableType:
    accuracy = frame_table(
        benchmark_grid(benchmark, "acc", "max"), "Benchmark table: accuracy by training step (* best)"
    )
    nll = frame_table(benchmark_grid(benchmark, "gold_nll", "min"), "Benchmark table: gold-answer NLL, nats (* best)")
    return Group(accuracy, nll)


def selected_panel(selected: pl.DataFrame, assignments: pl.DataFrame) -> RenderableType:
    flagged = assignments.filter(pl.col("above_chance").not_())["task"].to_list()
    caption = f"never above chance + 2 stderr, so chosen by gold-answer NLL: {', '.join(flagged)}" if flagged else ""
    return frame_table(selected.select("checkpoint", "progress", "alpha", "tasks"), "Selected checkpoints", caption)


def manifest_tables(manifest: Manifest) -> Sequence[RenderableType]:
    """Groups of a mixture, and what applies to all of them."""
    options = ", ".join(f"{name}={value}" for name, value in manifest.options.items()) or "none"
    caption = (
        f"profile {manifest.profile}, options that differ: {options}; snapshots: {', '.join(manifest.snapshots)}; "
        f"budget {manifest.token_budget:,} tokens, shortfall {manifest.shortfall:,}; "
        f"weight contrast {contrast_note(manifest)}; when a group runs out: {manifest.exhaustion_policy}"
    )
    title = f"Mixture {manifest.mixture}@{manifest.digest[:12]}"
    return [frame_table(manifest_groups(manifest), title, caption)]


def recovery_panel(auc: pl.DataFrame, *, corpus_share: float, group_share: float) -> RenderableType:
    """Retrieval of planted documents: how often one that teaches ranks above one that does not."""
    frame = auc.select(
        pl.col("task").alias("planted documents of"),
        pl.col("auc").round(3).alias("AUC of joint utility"),
        pl.col("n_planted").alias("planted"),
        pl.col("n_other").alias("teaching nothing"),
    )
    caption = (
        f"share of documents that teach a skill: {corpus_share:.1%} of the corpus, {group_share:.1%} of the groups"
    )
    return frame_table(frame, "Does utility find what was planted?", caption)


def comparison_panel(comparison: pl.DataFrame, baseline: str) -> RenderableType:
    seeds = comparison["n_seeds"].max()
    note = (
        f"mean ± sd over {seeds} seeds, same token budget; differences to {baseline} ± standard error, paired by seed"
    )
    accuracy = frame_table(comparison_grid(comparison, "acc"), "Targets on the final items: accuracy", note)
    nll = frame_table(
        comparison_grid(comparison, "gold_nll"), "Targets on the final items: gold-answer NLL, nats", note
    )
    return Group(accuracy, nll)


def mixtures_table(rows: Sequence[Mapping[str, object]]) -> RenderableType:
    """The list of mixtures, latest first."""
    table = Table("mixture", "digest", "made", "recipe", "snapshots", "weights", title="Mixtures", title_justify="left")
    for row in rows:
        made = datetime.datetime.fromtimestamp(float(str(row["made"]))).strftime("%Y-%m-%d %H:%M")
        weights = row.get("weights")
        shares = (
            ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items()) if isinstance(weights, dict) else "–"
        )
        snapshots = row.get("snapshots")
        names = ", ".join(map(str, snapshots)) if isinstance(snapshots, list) else "–"
        table.add_row(str(row["mixture"]), str(row["digest"])[:12], made, str(row.get("recipe", "–")), names, shares)
    return table
