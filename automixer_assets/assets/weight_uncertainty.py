"""The asset that says how sure a mixture's weights are."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from automixer_assets.assets.mixture import grouping_slice, manifest_slice
from automixer_assets.assets.recipes import joint_shards, joint_slice
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.mixers import mixer_of
from automixer_assets.mixture.groups import Selection, list_selections
from automixer_assets.mixture.item_contributions import group_densities
from automixer_assets.mixture.item_uncertainty import DENSITIES, density_shifts, read_contributions
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.uncertainty import REPLICATES, bucket_sums
from automixer_assets.mixture.weight_uncertainty import (
    Halves,
    document_and_item_intervals,
    redrawn_weights,
    selection_intervals,
)
from automixer_assets.mixture.weights import group_tables
from automixer_assets.pages.uncertainty import show_weight_uncertainty
from automixer_assets.partitions import MIXTURES, multi_key
from automixer_assets.settings import Mixture

MODULES = (
    "mixture.weight_uncertainty",
    "mixture.item_uncertainty",
    "mixture.uncertainty",
    "mixture.weights",
    "mixers",
    "mixers.influence_density",
)


def weight_uncertainty_asset() -> LakeAsset:
    """One table set per mixture."""
    everything = dg.AllPartitionMapping()
    return lake_asset(
        asset="weight_uncertainty",
        group="mixture",
        kinds={"duckdb", "polars"},
        code=sql_version("density_buckets", "group_utilities") + source_version(*MODULES),
        plan=plan_weight_uncertainty,
        partitions_def=MIXTURES,
        deps=[
            "weight_manifest",
            "grouped_shards",
            "item_contributions",
            dg.AssetDep("selected_checkpoints", partition_mapping=everything),
            dg.AssetDep("joint_influence", partition_mapping=everything),
        ],
    )


def plan_weight_uncertainty(scope: Scope) -> Build:
    """How sure are these weights, and what does the doubt come from?

    Intervals over documents, validation items, both, and the checkpoints that other selection items would have chosen.
    """
    settings, mixture = scope.settings, scope.settings.mixture(scope.key)
    recipe, made_with = settings.recipe(mixture.recipe), grouping_slice(mixture, settings)
    manifest = scope.pin("weight_manifest", scope.key, settings=manifest_slice(mixture, recipe))
    grouped = scope.pin("grouped_shards", scope.key, settings=made_with)
    carried = None
    if settings.resamples_items(scope.key):
        carried = scope.pin("item_contributions", scope.key, settings=made_with)
    selected = scope.pin("selected_checkpoints", mixture.recipe) if recipe.uses_checkpoints else None
    selections = list_selections(grouped.by_file)
    joint = {
        name: scope.pin(
            "joint_influence", multi_key(recipe=mixture.recipe, snapshot=name), settings=joint_slice(recipe, settings)
        )
        for name in sorted({selection.snapshot for selection in selections})
    }

    def write(out: Path) -> None:
        shards = joint_shards(joint)
        weights = [group.weight for group in load_manifest(manifest.file("manifest.json")).groups]
        found = [_resampled(mixture, weights, selections, carried)]
        if selected is not None and mixture.weight_rule == "equation":
            found.append(_redrawn(mixture, weights, grouped, selected, selections, shards, out))
        pl.concat(found).write_parquet(out / "intervals.parquet")

    return scope.build(write, show_weight_uncertainty, settings=manifest_slice(mixture, recipe))


def _resampled(
    mixture: Mixture, weights: list[float], selections: list[Selection], carried: Artifact | None
) -> pl.DataFrame:
    items = None if carried is None else read_contributions(carried.path)
    halves = None if carried is None else _halves(carried.path)
    return document_and_item_intervals(bucket_sums(selections), mixer_of(mixture), weights, items, halves)


def _halves(folder: Path) -> Halves | None:
    try:
        first, second = (density_shifts(read_contributions(folder, half), REPLICATES) for half in (0, 1))
    except AutomixerError:
        return None  # a group of a single document: how reliable its sample is cannot be told
    drawn = pl.read_parquet(folder / DENSITIES).unique("group", maintain_order=True)
    shares = dict(drawn.select("group", pl.col("n_sampled") / pl.col("n_documents")).iter_rows())
    groups = read_contributions(folder).groups
    return Halves(first, second, np.array([shares[group] for group in groups]))


def _redrawn(
    mixture: Mixture,
    weights: list[float],
    grouped: Artifact,
    selected: Artifact,
    selections: list[Selection],
    joint: list[JointShard],
    out: Path,
) -> pl.DataFrame:
    """Intervals over redrawn selections; writes which of their checkpoints have no scores."""
    tables = group_tables(grouped.by_file)
    densities = group_densities(selections, joint)
    redrawn = redrawn_weights(pl.read_parquet(selected.path / "redrawn.parquet"), densities, tables, mixer_of(mixture))
    schema = {"checkpoint": pl.String, "share": pl.Float64}
    pl.DataFrame(list(redrawn.unscored.items()), schema=schema, orient="row").write_parquet(out / "unscored.parquet")
    return selection_intervals(redrawn, [table.name for table in tables], weights)
