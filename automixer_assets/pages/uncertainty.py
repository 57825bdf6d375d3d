"""Pages that say how sure the weights are."""

from __future__ import annotations

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


def show_item_contributions(artifact: Artifact) -> Metadata:
    items = pl.read_parquet(artifact.path / CONTRIBUTIONS)
    densities = pl.read_parquet(artifact.path / DENSITIES)
    return {
        "dagster/row_count": items.height,
        "what the items of a task carry of a group's utility: mean ± standard error": metadata.table(_by_task(items)),
        "groups at the checkpoints": metadata.table(densities),
        "normalisation constants": metadata.table(pl.read_parquet(artifact.path / CHECKPOINTS)),
        "held fixed": "the groups, the documents in them and the curvature",
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
