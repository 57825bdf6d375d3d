"""The asset that lets weights be resampled over validation items: what each of them carries of each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from automixer_assets.assets.influence import BATCH_TOKENS, LAYERS, read_gradient_items
from automixer_assets.assets.mixture import grouping_slice
from automixer_assets.assets.recipes import joint_shards, joint_slice
from automixer_assets.assets.scorer_inputs import selection_slice
from automixer_assets.checks import check_contributions
from automixer_assets.corpus.reference import read_reference_sample
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import KERNEL_VERSION
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, Check, LakeAsset, Scope, lake_asset
from automixer_assets.mixture.groups import GroupOrigin, list_selections
from automixer_assets.mixture.item_contributions import (
    Sample,
    Scaling,
    contribution_table,
    draw_sample,
    pools_of,
    write_contributions,
)
from automixer_assets.mixture.normalisation import fit_normalisation
from automixer_assets.mixture.score_columns import (
    judged_tasks,
    score_columns,
    selected_origins,
    selection_tasks,
)
from automixer_assets.pages.uncertainty import show_item_contributions
from automixer_assets.partitions import MIXTURES, multi_key
from automixer_assets.settings import Recipe, Settings

VERSION = "1"
"""Raised by hand, beside the kernel's, when sample or pools change their meaning: the asset costs accelerator time."""


@dataclass(frozen=True)
class _Inputs:
    """What one checkpoint's pass reads."""

    origin: GroupOrigin
    tasks: list[str]
    columns: list[str]
    model: Path
    query: Path


@dataclass(frozen=True)
class _Texts:
    """Token ids that every checkpoint's pass reads."""

    items: Mapping[str, list[tuple[list[int], list[bool]]]]
    sampled: Sequence[np.ndarray]
    reference: list[list[int]]


def item_contributions_asset(settings: Settings) -> LakeAsset:
    """One table set per mixture that asks for it."""
    everything = dg.AllPartitionMapping()
    upstream = [
        "joint_influence",
        "tokenized_corpus",
        "selected_checkpoints",
        *(f"{proxy}/{asset}" for proxy in settings.proxies for asset in ("proxy_checkpoints", "influence_query")),
    ]
    return lake_asset(
        asset="item_contributions",
        group="mixture",
        kinds={"torch", "parquet"},
        code=f"{VERSION}-{KERNEL_VERSION}",
        plan=plan_item_contributions,
        partitions_def=MIXTURES,
        deps=[
            "grouped_shards",
            "validation_items",
            "reference_sample",
            *(dg.AssetDep(dg.AssetKey.from_user_string(name), partition_mapping=everything) for name in upstream),
        ],
        checks=[
            Check(
                "items_add_up_to_the_scores",
                "Over all items, contributions to a group's utility sum to what the documents' scores say.",
                check_contributions,
            )
        ],
        pool="accelerator",
    )


def plan_item_contributions(scope: Scope) -> Build:
    """Which validation items do the groups' densities rest on?

    Per item, group and checkpoint what the item carries of the group's mean utility, from a sample of its documents;
    resampling the items is arithmetic from there. The groups are held fixed.
    """
    settings, mixture = scope.settings, scope.settings.mixture(scope.key)
    if not settings.resamples_items(scope.key):
        raise AutomixerError(
            f"mixture {scope.key!r} resamples documents only: skip this asset, or set `uncertainty: "
            "documents_and_items` for a mixture of influence scores"
        )
    recipe, made_with = settings.recipe(mixture.recipe), grouping_slice(mixture, settings)
    grouped = scope.pin("grouped_shards", scope.key, settings=made_with)
    inputs = _pin_checkpoints(scope, mixture.recipe, recipe)
    selections = list_selections(grouped.by_file)
    names = sorted({selection.snapshot for selection in selections})
    joint = {name: _pin_joint(scope, mixture.recipe, recipe, name) for name in names}
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).by_file) for name in names}
    items, reference = scope.pin("validation_items"), scope.pin("reference_sample")

    def write(out: Path) -> None:
        shards = joint_shards(joint)
        sample = draw_sample(selections, seed=settings.seed)
        texts = _Texts(
            read_gradient_items(items.path, recipe.query),
            sample.tokens(corpora),
            read_reference_sample(reference.path),
        )
        scalings = {each.origin.name: _scaling(recipe, each) for each in inputs}
        write_contributions(
            origins=[each.origin for each in inputs],
            scalings={name: scaling for name, scaling in scalings.items() if scaling is not None},
            sample=sample,
            selections=selections,
            joint=shards,
            contributions=list(_contributions(scope, recipe, inputs, scalings, sample, texts)),
            out=out,
        )

    return scope.build(write, show_item_contributions, settings=made_with)


def _pin_joint(scope: Scope, name: str, recipe: Recipe, snapshot: str) -> Artifact:
    made_with = joint_slice(recipe, scope.settings)
    return scope.pin("joint_influence", multi_key(recipe=name, snapshot=snapshot), settings=made_with)


def _pin_checkpoints(scope: Scope, name: str, recipe: Recipe) -> list[_Inputs]:
    selected = scope.pin("selected_checkpoints", name, settings=selection_slice(recipe))
    tasks = selection_tasks(selected.path)
    return [
        _Inputs(
            origin,
            judged_tasks(origin, recipe, tasks),
            score_columns(origin, recipe, tasks),
            scope.pin(f"{recipe.proxy}/proxy_checkpoints", origin.name).path,
            scope.pin(f"{recipe.proxy}/influence_query", origin.name).path,
        )
        for origin in selected_origins(selected.path)
    ]


def _scaling(recipe: Recipe, inputs: _Inputs) -> Scaling | None:
    if recipe.normalisation == "none":
        return None
    scores = inputs.query / "reference_scores.parquet"
    constants = fit_normalisation(recipe.normalisation, scores, inputs.columns)
    influences = pl.read_parquet(scores, columns=inputs.columns).cast(pl.Float64)
    return Scaling(recipe.normalisation, constants, 0 - influences.mean_horizontal().to_numpy())


def _contributions(
    scope: Scope,
    recipe: Recipe,
    inputs: Sequence[_Inputs],
    scalings: Mapping[str, Scaling | None],
    sample: Sample,
    texts: _Texts,
) -> Iterator[pl.DataFrame]:
    """One checkpoint after the other, so that one model is held at a time."""
    from automixer_assets.influence import score_items
    from automixer_assets.proxy.model import load_model

    with scope.progress(len(inputs), "checkpoints") as progress:
        for number, each in enumerate(inputs):
            pools = pools_of(sample, scalings[each.origin.name])
            scores = score_items(
                load_model(each.model),
                {task: texts.items[task] for task in each.tasks},
                pools,
                [*texts.sampled, *texts.reference],
                texts.reference,
                layers=LAYERS,
                curvature=recipe.curvature,
                batch_tokens=BATCH_TOKENS,
                on_progress=lambda done, total, n=number: progress.advance(n + done / total - progress.done),
            )
            yield contribution_table(each.origin.name, pools, scores)
