"""Put a manifest together: grouped shards, a mixer's weights, the budget, and where everything came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.mixers import GroupWeights, Mixer, mixer_of
from automixer_assets.mixture.budget import Allocation
from automixer_assets.mixture.constraints import allocate_budget, find_subsamples
from automixer_assets.mixture.groups import GroupOrigin, GroupSummary, Selection, list_selections, read_group_summaries
from automixer_assets.mixture.item_uncertainty import ItemContributions, density_shifts
from automixer_assets.mixture.manifest import (
    SCHEMA_VERSION,
    CreatedBy,
    Manifest,
    ManifestGroup,
    ManifestPhase,
    ManifestShard,
    Pin,
    Subsample,
    manifest_digest,
)
from automixer_assets.mixture.uncertainty import REPLICATES, bucket_sums, weight_intervals
from automixer_assets.mixture.weights import GroupTable, group_tables, weight_contrast
from automixer_assets.settings import Mixture, Recipe, profile_differences

NAMED_IN_THE_MANIFEST = {
    *("profile", "proxy", "recipe", "snapshots", "token_budget", "exhaustion_policy"),
    *("limits", "exports"),
}
"""Settings with a manifest field of their own, or that change nothing, so not repeated under `options`."""


def build_manifest(
    *,
    name: str,
    mixture: Mixture,
    recipe: Recipe,
    origins: Sequence[GroupOrigin],
    grouped: Path,
    lake_root: Path,
    tokenizer_digest: str,
    pins: Sequence[Pin],
    created_by: CreatedBy,
    mixer: Mixer | None = None,
    snapshots: Mapping[str, TokenizedSnapshot] | None = None,
    contributions: ItemContributions | None = None,
) -> Manifest:
    """Manifest of a grouped_shards folder.

    Args:
        name: the mixture's name in settings.
        origins: where each group comes from; the same groups as in `grouped`.
        grouped: the grouped_shards folder, below `lake_root`: shard uris are relative to it.
        pins: the upstream artefacts that were read.
        mixer: the weight rule; by default the one that the mixture's settings name.
        snapshots: snapshot -> its tokenised folder; a mixture with `max_document_epochs` needs their content hashes.
        contributions: what each validation item carries; without them intervals count documents alone.
    """
    selections = list_selections(grouped)
    tables = group_tables(grouped)
    rule = mixer or mixer_of(mixture)
    weights = rule.weigh(tables)
    if weights.intervals is None:
        weights = replace(weights, intervals=_intervals(selections, rule, contributions))
    allocation = allocate_budget(mixture, tables, weights.weights, selections, snapshots or {})
    subsamples = find_subsamples(mixture, grouped, tables, selections, allocation)
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "mixture": name,
        "digest": "",
        "proxy": recipe.proxy,
        "recipe": mixture.recipe,
        "profile": mixture.profile,
        "options": manifest_options(mixture, recipe),
        "snapshots": sorted({selection.snapshot for selection in selections}),
        "tokenizer_digest": tokenizer_digest,
        "token_budget": mixture.token_budget,
        "exhaustion_policy": mixture.exhaustion_policy,
        "groups": _groups(grouped, lake_root, selections, tables, origins, weights, allocation, subsamples),
        "weight_contrast": weight_contrast(weights.weights),
        "shortfall": allocation.shortfall,
        "phases": [ManifestPhase(from_token=each.from_token, weights=each.weights) for each in allocation.phases],
        "pins": list(pins),
        "created_by": created_by,
    }
    manifest = Manifest(**fields)
    return manifest.model_copy(update={"digest": manifest_digest(manifest)})


def manifest_options(mixture: Mixture, recipe: Recipe) -> dict[str, Any]:
    """`recipe.X` and `mixture.X` of every option that differs from the manifest's profile or from its default."""
    options: dict[str, Any] = {}
    for prefix, section in (("recipe", recipe), ("mixture", mixture)):
        defaults = {
            field: value
            for field, value in section.model_dump(mode="json").items()
            if not type(section).model_fields[field].is_required()
            and getattr(section, field) != type(section).model_fields[field].default
        }
        differences = {**defaults, **profile_differences(section)}
        options |= {
            f"{prefix}.{field}": value for field, value in differences.items() if field not in NAMED_IN_THE_MANIFEST
        }
    if recipe.profile != mixture.profile:
        options["recipe.profile"] = recipe.profile
    return dict(sorted(options.items()))


def _intervals(
    selections: Sequence[Selection], mixer: Mixer, contributions: ItemContributions | None
) -> tuple[tuple[float, float] | None, ...]:
    """Bootstrap over documents, and over items where given; None where some resamples have no weights at all."""
    shifts = None if contributions is None else density_shifts(contributions, REPLICATES)
    found = weight_intervals(bucket_sums(selections), mixer, shifts=shifts)
    return tuple(None if each.low is None or each.high is None else (each.low, each.high) for each in found)


def _groups(
    grouped: Path,
    lake_root: Path,
    selections: Sequence[Selection],
    tables: Sequence[GroupTable],
    origins: Sequence[GroupOrigin],
    weights: GroupWeights,
    allocation: Allocation,
    subsamples: Mapping[str, Subsample | None],
) -> list[ManifestGroup]:
    summaries = {summary.name: summary for summary in read_group_summaries(grouped)}
    by_name = {origin.name: origin for origin in origins}
    if set(by_name) != set(summaries):
        raise AutomixerError(
            f"{grouped} holds the groups {sorted(summaries)} but the recipe has {sorted(by_name)}; "
            "materialise grouped_shards again"
        )
    return [
        _group(
            origin=by_name[table.name],
            summary=summaries[table.name],
            table=table,
            weight=weights.weights[position],
            weight_interval=weights.intervals[position] if weights.intervals else None,
            weight_appendix_b=weights.appendix_b[position],
            exposure=allocation.tokens[table.name] / table.n_tokens,
            shards=[_shard(each, lake_root) for each in selections if each.group == table.name],
            subsample=subsamples.get(table.name),
            stopped_by=allocation.stopped_by.get(table.name),
        )
        for position, table in enumerate(tables)
    ]


def _group(*, origin: GroupOrigin, summary: GroupSummary, table: GroupTable, **fields: Any) -> ManifestGroup:
    return ManifestGroup(
        name=origin.name,
        checkpoint=origin.checkpoint,
        step=origin.step,
        tasks=list(origin.tasks),
        alpha=origin.alpha,
        threshold=summary.threshold,
        n_documents=table.n_documents,
        n_tokens=table.n_tokens,
        density=table.density,
        density_scaled=table.density_scaled,
        **fields,
    )


def _shard(selection: Selection, lake_root: Path) -> ManifestShard:
    lengths = pq.read_table(selection.path, columns=["n_tokens"])["n_tokens"]
    with selection.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ManifestShard(
        uri=selection.path.resolve().relative_to(lake_root.resolve()).as_posix(),
        sha256=digest,
        n_documents=len(lengths),
        n_tokens=int(lengths.to_numpy().sum()),
    )
