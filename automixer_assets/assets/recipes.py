"""Assets of a recipe: the checkpoints it selects, and the joint influence of documents at them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.drift import SNAPSHOT_DRIFT
from automixer_assets.assets.scorer_inputs import PinnedInputs, required_file, selection_slice
from automixer_assets.assets.task_gradients import pin_cosines, read_cosines, task_gradient_assets
from automixer_assets.automation.conditions import when_inputs_change
from automixer_assets.benchmark.redrawn import redrawn_selections, winners
from automixer_assets.benchmark.selection import select_checkpoints
from automixer_assets.checkpoint_keys import sync_checkpoint_keys
from automixer_assets.checks import check_alphas, check_joint
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact, file_sha256
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Scope, lake_asset, planned
from automixer_assets.launch.job import mixture_launcher
from automixer_assets.launch.joint import JointJob, write_joint_shards
from automixer_assets.mixture.normalisation import write_normalisation
from automixer_assets.mixture.passes import JointShard
from automixer_assets.pages.mixture import (
    show_joint_influence,
    show_selected_checkpoints,
)
from automixer_assets.partitions import RECIPE_BY_SNAPSHOT, RECIPES
from automixer_assets.resources import Automixer, state_folder
from automixer_assets.settings import Recipe, Settings

GROUP = "mixture"
JOINT_SQL = (
    "group_utility",
    "ranked_utility",
    "joint_influence",
    "normalisation_constants",
    "normalisation_ranks",
)
JOINT_MODULES = ("mixture.joint", "mixture.normalisation", "scorers", "scorers._corpus", "scorers._lexical")
"""The strategy's own module counts through `joint_slice`, so that a new one makes no other stale."""


def recipe_assets(settings: Settings) -> list[LakeAsset]:
    """From a proxy's benchmark table to the joint influence of a recipe."""
    proxies = list(settings.proxies)
    return [
        lake_asset(
            asset="selected_checkpoints",
            group=GROUP,
            kinds={"polars"},
            code=source_version(
                "benchmark.selection",
                "benchmark.redrawn",
                "benchmark.trajectories",
                "benchmark.clustering",
                "benchmark.stability",
            ),
            plan=plan_selected_checkpoints,
            partitions_def=RECIPES,
            deps=[
                *(f"{proxy}/benchmark_table" for proxy in proxies),
                *(item.asset for proxy in proxies for item in task_gradient_assets(proxy, settings)),
            ],
            checks=[Check("alphas_sum_to_one", "Blending factors are positive and sum to 1.", check_alphas)],
        ),
        lake_asset(
            asset="joint_influence",
            group=GROUP,
            kinds={"duckdb", "parquet"},
            code=_joint_code(),
            plan=plan_joint_influence,
            partitions_def=RECIPE_BY_SNAPSHOT,
            deps=[
                "selected_checkpoints",
                "tokenized_corpus",
                *_influence_deps(proxies),
                "lexical_scores",
                "lexical_query",
            ],
            checks=[Check("one_row_per_document", "No document twice, joint utility finite.", check_joint)],
            comparisons=[SNAPSHOT_DRIFT],
            automation_condition=when_inputs_change(_can_blend),
        ),
    ]


def _joint_code() -> str:
    return sql_version(*JOINT_SQL) + source_version(*JOINT_MODULES)


def _can_blend(instance: dg.DagsterInstance, partition: str) -> bool:
    """Whether joint influence could be made now, for its automation condition."""
    automixer = Automixer().frozen()
    build = planned("joint_influence", _joint_code(), plan_joint_influence, partition, automixer, instance)
    return isinstance(build, Build)


def _influence_deps(proxies: list[str]) -> list[dg.AssetDep]:
    """Joint influence reads its own snapshot at all checkpoints; which of them, its pins say."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", dg.BetaWarning
        )  # tried out with the pinned version; nothing else maps two dimensions
        by_snapshot = dg.MultiPartitionMapping(
            {
                "snapshot": dg.DimensionPartitionMapping("snapshot", dg.IdentityPartitionMapping()),
                "checkpoint": dg.DimensionPartitionMapping("recipe", dg.AllPartitionMapping()),
            }
        )
    return [
        dep
        for proxy in proxies
        for dep in (
            dg.AssetDep(dg.AssetKey([proxy, "checkpoint_influence"]), partition_mapping=by_snapshot),
            dg.AssetDep(dg.AssetKey([proxy, "influence_query"]), partition_mapping=dg.AllPartitionMapping()),
        )
    ]


def plan_selected_checkpoints(scope: Scope) -> Build:
    """Which checkpoints stand for which tasks, and how much does each count?

    The best step per task, equal steps merged, with blending factors alpha (paper, sections 3 and 4).
    """
    recipe = _selecting_recipe(scope, scope.key)
    proxy = str(recipe.proxy)
    table, gradients = scope.pin(f"{proxy}/benchmark_table"), pin_cosines(scope, recipe)

    def write(out: Path) -> None:
        benchmark, items = (pl.read_parquet(table.path / f"{name}.parquet") for name in ("benchmark", "items"))
        selection = select_checkpoints(benchmark, recipe, items=items, cosines=read_cosines(gradients))
        for warning in selection.warnings:
            scope.log(f"{scope.name}: warning: {warning}")
        selection.selected.write_parquet(out / "selected.parquet")
        selection.assignments.write_parquet(out / "assignments.parquet")
        winners(benchmark, recipe, items).write_parquet(out / "winners.parquet")
        redrawn = redrawn_selections(benchmark, recipe, items, read_cosines(gradients))
        redrawn.write_parquet(out / "redrawn.parquet")

    def own_checkpoint_keys(artifact: Artifact) -> None:
        sync_checkpoint_keys(scope.instance, scope.lake, scope.settings, proxy, fresh={scope.key: artifact})

    return scope.build(write, show_selected_checkpoints, settings=selection_slice(recipe), after=own_checkpoint_keys)


def joint_slice(recipe: Recipe, settings: Settings) -> object:
    """What of a recipe determines its joint influence, selection included."""
    chosen = {option: getattr(recipe, option) for option in ("scorer", "options")}
    files = recipe.strategy.files(recipe.options)
    content = [file_sha256(required_file(state_folder() / path, "a recipe's `options`")) for path in files]
    method = [source_version(f"scorers.{recipe.scorer}"), *content]
    if not recipe.uses_checkpoints:
        return [chosen, method]
    options = ("proxy", "query", "curvature", "group_tasks", "normalisation")
    at_checkpoints = {option: getattr(recipe, option) for option in options}
    half = [settings.scoring.half] if settings.scoring.half is not None else []
    return [chosen, method, at_checkpoints, selection_slice(recipe), settings.tasks.names, *half]


def joint_shards(joint: Mapping[str, Artifact]) -> list[JointShard]:
    """The shards of joint_influence artefacts, by snapshot, to be read by files."""
    return [
        JointShard(snapshot, path.stem, path)
        for snapshot, artifact in joint.items()
        for path in sorted(artifact.by_file.glob("shard-*.parquet"))
    ]


def _selecting_recipe(scope: Scope, name: str) -> Recipe:
    recipe = scope.settings.recipe(name)
    if not recipe.uses_checkpoints:
        raise AutomixerError(
            f"recipe {name!r} uses scorer {recipe.scorer!r}, which selects no checkpoints: skip this asset"
        )
    return recipe


def plan_joint_influence(scope: Scope) -> Build:
    """How useful is each document of this snapshot over all selected checkpoints together?

    Per group the utility at its checkpoint, and their blend with alpha, the paper's I_joint (section 4).
    """
    name, snapshot = scope.keys
    recipe = scope.settings.recipe(name)
    corpus = scope.pin("tokenized_corpus", snapshot)
    scorer = recipe.strategy.scorer(PinnedInputs(scope, name, snapshot))

    def write(out: Path) -> None:
        if scorer.constants:
            write_normalisation(scorer.constants, out)
        shards = open_tokenized(corpus.by_file).shards
        with scope.progress(len(shards), "shards") as progress:
            run = mixture_launcher(scope.settings.launchers, scope.log)
            write_joint_shards(JointJob(scorer, out), shards, on_progress=progress.advance, run=run)

    def show(artifact: Artifact) -> Metadata:
        return show_joint_influence(artifact, recipe.normalisation)

    return scope.build(write, show, settings=joint_slice(recipe, scope.settings), resumable=True)
