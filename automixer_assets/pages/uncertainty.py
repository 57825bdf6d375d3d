"""Pages that say how sure the weights are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets import metadata
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata
from automixer_assets.mixture.item_uncertainty import (
    CHECKPOINTS,
    CONTRIBUTIONS,
    DENSITIES,
    GROUP_PREFIX,
)
from automixer_assets.mixture.manifest import is_doubtful
from automixer_assets.mixture.weight_uncertainty import ITEMS, SELECTION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RELIABLE = 0.9
SHOWN_CHECKPOINTS = 4
HELD_FIXED = "the groups, the documents in them and the curvature are held fixed"


def show_item_contributions(artifact: Artifact) -> Metadata:
    items = pl.read_parquet(artifact.path / CONTRIBUTIONS)
    densities = pl.read_parquet(artifact.path / DENSITIES)
    return {
        "dagster/row_count": items.height,
        "what the items of a task carry of a group's utility: mean ± standard error": metadata.table(_by_task(items)),
        "groups at the checkpoints": metadata.table(densities),
        "normalisation constants": metadata.table(pl.read_parquet(artifact.path / CHECKPOINTS)),
        "note": HELD_FIXED,
        "SQL": metadata.sql(["hashed_members", "group_utilities"]),
    }


def _by_task(items: pl.DataFrame) -> pl.DataFrame:
    groups = [name for name in items.columns if name.startswith(GROUP_PREFIX)]
    means = items.group_by("checkpoint", "task", maintain_order=True).agg(
        pl.len().alias("items"),
        *(pl.col(name).mean() for name in groups),
        *((pl.col(name).std() / pl.len().sqrt()).alias(f"{name}±") for name in groups),
    )
    notes = (
        pl.format("{} ± {}", _three_digits(name), _three_digits(f"{name}±")).alias(name.removeprefix(GROUP_PREFIX))
        for name in groups
    )
    return means.select("checkpoint", "task", "items", *notes)


def _three_digits(name: str) -> pl.Expr:
    return pl.col(name).round_sig_figs(3).cast(pl.String).fill_null("–")


def show_weight_uncertainty(artifact: Artifact) -> Metadata:
    intervals = pl.read_parquet(artifact.path / "intervals.parquet")
    return {
        "weights: 95 % intervals by what is drawn again": metadata.table(interval_grid(intervals)),
        "weights and their intervals": metadata.plot(lambda axes: _draw_intervals(axes, intervals)),
        "notes": metadata.table(pl.DataFrame({"note": interval_notes(artifact.path)})),
        "SQL": metadata.sql(["density_buckets", "group_utilities"]),
    }


def uncertainty_json(folder: Path, selected: Path | None) -> dict[str, Any]:
    """The whole tables of a mixture's weights, and of the selection that they rest on."""
    tables = {"intervals": folder / "intervals.parquet", "unscored": folder / "unscored.parquet"}
    if selected is not None:
        tables |= {name: selected / f"{name}.parquet" for name in ("winners", "redrawn")}
    found = {name: pl.read_parquet(path).to_dicts() for name, path in tables.items() if path.exists()}
    return {**found, "notes": interval_notes(folder)}


def interval_grid(intervals: pl.DataFrame) -> pl.DataFrame:
    """A row per group, a column per part that is resampled."""
    noted = intervals.select(
        "group",
        "weight",
        "resampled",
        pl.struct("low", "high").map_elements(_interval_note, pl.String).alias("interval"),
    )
    parts = intervals["resampled"].unique(maintain_order=True)
    return noted.pivot("resampled", index=["group", "weight"], values="interval").select("group", "weight", *parts)


def runners_up(winners: pl.DataFrame) -> pl.DataFrame:
    """A row per task: the chosen checkpoint, how likely it is to win again, and which other one would most often."""
    chosen = winners.filter("chosen").select("task", pl.col("checkpoint").alias("chosen"), "probability")
    others = winners.filter(pl.col("chosen").not_()).group_by("task", maintain_order=True).first()
    runner_up = others.select(
        "task", pl.col("checkpoint").alias("runner-up"), pl.col("probability").alias("runner-up's probability")
    )
    return chosen.join(runner_up, on="task", how="left", maintain_order="left").with_columns(
        (1 - pl.col("probability")).alias("another would have won")
    )


def interval_notes(folder: Path) -> list[str]:
    """What a person must know to read the grid."""
    intervals = pl.read_parquet(folder / "intervals.parquet")
    notes = [HELD_FIXED]
    if ITEMS not in intervals["resampled"]:
        notes.append("validation items are not resampled: set `uncertainty: documents_and_items` for the mixture")
    reliability = metadata.number(intervals["reliability"].min())
    if reliability < RELIABLE:
        notes.append(
            f"the intervals over items are upper bounds: up to {1 - reliability:.0%} of their variance comes from "
            "sampling the groups' documents"
        )
    selection = intervals.filter(pl.col("resampled") == SELECTION)
    if not selection.is_empty():
        notes.append(_coverage_note(float(selection["covered_share"][0]), pl.read_parquet(folder / "unscored.parquet")))
    return notes


def _coverage_note(covered: float, unscored: pl.DataFrame) -> str:
    note = f"selection: over the {covered:.0%} of redrawn selections whose checkpoints the mixture has groups for"
    if unscored.is_empty():
        return note
    wanted = ", ".join(f"{name} ({share:.0%})" for name, share in unscored.head(SHOWN_CHECKPOINTS).iter_rows())
    return f"{note}; the others select checkpoints without scores, so only alphas are known there: {wanted}"


def _interval_note(ends: Mapping[str, float | None]) -> str:
    low, high = ends["low"], ends["high"]
    if low is None or high is None:
        return "undefined (warning: some resamples have no weights)"
    doubtful = is_doubtful((low, high))
    return f"{low:.3f} to {high:.3f}" + (" (warning: a factor of two or more)" if doubtful else "")


def _draw_intervals(axes: Axes, intervals: pl.DataFrame) -> None:
    parts = intervals["resampled"].unique(maintain_order=True).to_list()
    groups = intervals["group"].unique(maintain_order=True).to_list()
    for number, part in enumerate(parts):
        own = intervals.filter((pl.col("resampled") == part) & pl.col("low").is_not_null())
        places = [groups.index(group) + 0.16 * (number - (len(parts) - 1) / 2) for group in own["group"]]
        weights, color = own["weight"].to_numpy(), metadata.PALETTE[number % len(metadata.PALETTE)]
        axes.vlines(places, own["low"].to_list(), own["high"].to_list(), color=color, linewidth=3, label=part)
        axes.plot(places, weights, "o", color="#333333", markersize=3)
    axes.set_xticks(range(len(groups)), groups, rotation=15, fontsize=8)
    axes.set_ylabel("share of tokens")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, title="drawn again", title_fontsize=7)
