"""Mixture assets: the checkpoints of a recipe, joint influence, groups of documents, and the weight manifest."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets import __version__
from automixer_assets.assets.influence import influence_column
from automixer_assets.assets.leakage import exclusion_deps, pin_exclusions, pin_removed
from automixer_assets.assets.task_gradients import pin_cosines, read_cosines, task_gradient_assets
from automixer_assets.benchmark.selection import select_checkpoints
from automixer_assets.checkpoint_keys import sync_checkpoint_keys
from automixer_assets.checks import check_alphas, check_budget, check_joint, check_kept, check_schema, check_weights
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import SCRATCH, Artifact, Written
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.candidates import restore_rows, without_excluded
from automixer_assets.mixture.exposure import write_exposure
from automixer_assets.mixture.groups import GroupOrigin, list_selections
from automixer_assets.mixture.manifest import CreatedBy, write_manifest
from automixer_assets.mixture.manifest import Pin as ManifestPin
from automixer_assets.mixture.normalisation import Normalisation, fit_normalisation, write_normalisation
from automixer_assets.mixture.percentiles import write_percentile_ranges
from automixer_assets.mixture.regroup import JointShard, regroup
from automixer_assets.pages.mixture import (
    show_grouped_shards,
    show_joint_influence,
    show_selected_checkpoints,
    show_weight_manifest,
)
from automixer_assets.partitions import MIXTURES, RECIPE_BY_SNAPSHOT, RECIPES, multi_key
from automixer_assets.scorers import Scorer, write_scored_shard
from automixer_assets.scorers.influence import InfluenceScorer
from automixer_assets.scorers.uniform import UniformScorer
from automixer_assets.settings import Mixture, Recipe, Settings
from automixer_assets.version import git_commit

GROUP = "mixture"
JOINT_SQL = (
    "group_utility",
    "ranked_utility",
    "joint_influence",
    "normalisation_constants",
    "normalisation_ranks",
)
GROUPING_SQL = (
    "candidate_totals",
    "utility_histogram",
    "utility_at_rank",
    "tied_document",
    "kept_utility",
    "group_memberships",
    "group_overlap",
)
PERCENTILE_SQL = ("percentile_ranges", "percentile_statistics")


def mixture_assets(settings: Settings) -> list[LakeAsset]:
    """From a proxy's benchmark table to a mixture's weights."""
    proxies = list(settings.proxies)
    return [
        lake_asset(
            asset="selected_checkpoints",
            group=GROUP,
            kinds={"polars"},
            code=source_version(
                "benchmark.selection", "benchmark.trajectories", "benchmark.clustering", "benchmark.stability"
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
            code=sql_version(*JOINT_SQL)
            + source_version(
                "mixture.joint", "mixture.normalisation", "scorers", "scorers.influence", "scorers.uniform"
            ),
            plan=plan_joint_influence,
            partitions_def=RECIPE_BY_SNAPSHOT,
            deps=["selected_checkpoints", "tokenized_corpus", *_influence_deps(proxies)],
            checks=[Check("one_row_per_document", "No document twice, joint utility finite.", check_joint)],
        ),
        lake_asset(
            asset="grouped_shards",
            group=GROUP,
            kinds={"duckdb", "parquet"},
            code=sql_version(*GROUPING_SQL, *PERCENTILE_SQL)
            + source_version("mixture.regroup", "mixture.thresholds", "mixture.percentiles", "mixture.candidates"),
            plan=plan_grouped_shards,
            partitions_def=MIXTURES,
            deps=[
                dg.AssetDep("joint_influence", partition_mapping=dg.AllPartitionMapping()),
                dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
                *exclusion_deps(),
            ],
            checks=[
                Check("kept_share_is_exact", "Each group keeps exactly ceil(top share x n) documents.", check_kept)
            ],
        ),
        _weight_manifest_asset(),
    ]


def _weight_manifest_asset() -> LakeAsset:
    return lake_asset(
        asset="weight_manifest",
        group=GROUP,
        kinds={"duckdb", "json"},
        code=sql_version("group_density", "appendix_b_products", "density_buckets", "exposure")
        + source_version(
            "mixture.build",
            "mixture.weights",
            "mixture.uncertainty",
            "mixture.budget",
            "mixture.exposure",
            "mixers",
            "mixers.influence_density",
        ),
        plan=plan_weight_manifest,
        partitions_def=MIXTURES,
        deps=[
            "grouped_shards",
            dg.AssetDep("selected_checkpoints", partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep("removed_documents", partition_mapping=dg.AllPartitionMapping()),
        ],
        checks=[
            Check("follows_its_schema", "manifest.json validates against the shipped JSON Schema.", check_schema),
            Check("weights_sum_to_one", "Weights are in [0, 1] and sum to 1.", check_weights),
            Check("token_budget_respected", "Allocated tokens and shortfall add up to the budget.", check_budget),
        ],
    )


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
    recipe = _influence_recipe(scope, scope.key)
    proxy = str(recipe.proxy)
    table, gradients = scope.pin(f"{proxy}/benchmark_table"), pin_cosines(scope, recipe)

    def write(out: Path) -> None:
        benchmark, items = (pl.read_parquet(table.path / f"{name}.parquet") for name in ("benchmark", "items"))
        selection = select_checkpoints(benchmark, recipe, items=items, cosines=read_cosines(gradients))
        for warning in selection.warnings:
            scope.log(f"{scope.name}: warning: {warning}")
        selection.selected.write_parquet(out / "selected.parquet")
        selection.assignments.write_parquet(out / "assignments.parquet")

    def own_checkpoint_keys(artifact: Artifact) -> None:
        sync_checkpoint_keys(scope.instance, scope.lake, scope.settings, proxy, fresh={scope.key: artifact})

    return scope.build(write, show_selected_checkpoints, settings=selection_slice(recipe), after=own_checkpoint_keys)


def selection_slice(recipe: Recipe) -> object:
    """What of a recipe determines its selected checkpoints."""
    options = (
        "selection",
        "selection_metric",
        "chance_fallback",
        "early_checkpoint",
        "max_checkpoints",
        "task_clustering",
        "alpha",
    )
    return {option: getattr(recipe, option) for option in options}


def joint_slice(recipe: Recipe, settings: Settings) -> object:
    """What of a recipe determines its joint influence, selection included."""
    options = ("scorer", "proxy", "query", "curvature", "group_tasks", "normalisation")
    return [{option: getattr(recipe, option) for option in options}, selection_slice(recipe), settings.tasks.names]


def grouping_slice(mixture: Mixture, settings: Settings) -> object:
    """What of a mixture and its recipe determines its groups."""
    excluded = [mixture.leaked_documents, settings.corpus.removal_list is not None]
    return [mixture.top_share, mixture.snapshots, excluded, joint_slice(settings.recipe(mixture.recipe), settings)]


def _influence_recipe(scope: Scope, name: str) -> Recipe:
    recipe = scope.settings.recipe(name)
    if recipe.scorer != "influence":
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
    scorer = _scorer(scope, name, recipe, snapshot)

    def write(out: Path) -> None:
        if isinstance(scorer, InfluenceScorer) and scorer.constants:
            write_normalisation(scorer.constants, out)
        shards = open_tokenized(corpus.path).shards
        with scope.progress(len(shards), "shards") as progress:
            for shard in shards:
                path = out / f"{shard.name}.parquet"
                if not path.exists():
                    write_scored_shard(scorer, shard, path)
                progress.advance(1)

    def show(artifact: Artifact) -> Metadata:
        return show_joint_influence(artifact, recipe.normalisation)

    return scope.build(write, show, settings=joint_slice(recipe, scope.settings), resumable=True)


def _scorer(scope: Scope, name: str, recipe: Recipe, snapshot: str) -> Scorer:
    """The recipe's scorer, with pins on what it reads."""
    if recipe.scorer == "uniform":
        return UniformScorer()
    selected = scope.pin("selected_checkpoints", name, settings=selection_slice(recipe))
    tasks = pl.read_parquet(selected.path / "assignments.parquet")["task"].to_list()  # groups are expanded there
    origins = _origins(selected)
    columns = {origin.name: _columns(origin, recipe, tasks) for origin in origins}
    folders: dict[str, dict[str, Path]] = {}
    constants: dict[str, Normalisation] = {}
    for origin in origins:
        scores = scope.pin(f"{recipe.proxy}/checkpoint_influence", multi_key(checkpoint=origin.name, snapshot=snapshot))
        folders[origin.name] = {snapshot: scores.path}
        if recipe.normalisation != "none":
            query = scope.pin(f"{recipe.proxy}/influence_query", origin.name)
            constants[origin.name] = fit_normalisation(
                recipe.normalisation, query.path / "reference_scores.parquet", columns[origin.name]
            )
    return InfluenceScorer(tuple(origins), folders, columns, constants or None)


def _columns(origin: GroupOrigin, recipe: Recipe, tasks: list[str]) -> list[str]:
    """Score columns of a group: its own tasks under `assigned`; all of them otherwise, or where it has none."""
    own = list(origin.tasks) if recipe.group_tasks == "assigned" and origin.tasks else tasks
    return [influence_column(recipe.curvature, recipe.query, task) for task in own]


def _origins(selected: Artifact) -> list[GroupOrigin]:
    return [
        GroupOrigin(row["checkpoint"], row["checkpoint"], row["step"], tuple(row["tasks"]), row["alpha"])
        for row in pl.read_parquet(selected.path / "selected.parquet").iter_rows(named=True)
    ]


def plan_grouped_shards(scope: Scope) -> Build:
    """Which documents are in which group, and how far do the groups overlap?

    Per group the top share of documents by its utility, over the union of the mixture's snapshots; documents that the
    mixture excludes take no part.
    """
    mixture = scope.settings.mixture(scope.key)
    made_with = joint_slice(scope.settings.recipe(mixture.recipe), scope.settings)
    joint = {
        snapshot: scope.pin("joint_influence", multi_key(recipe=mixture.recipe, snapshot=snapshot), settings=made_with)
        for snapshot in mixture_snapshots(scope, mixture)
    }
    exclusions = pin_exclusions(scope, mixture, list(joint))

    corpora = {snapshot: open_tokenized(scope.pin("tokenized_corpus", snapshot).path) for snapshot in joint}

    def write(out: Path) -> None:
        shards = [
            JointShard(snapshot, path.stem, path)
            for snapshot, artifact in joint.items()
            for path in sorted(artifact.path.glob("shard-*.parquet"))
        ]
        documents = {
            (snapshot, shard.name): shard.documents_path
            for snapshot, corpus in corpora.items()
            for shard in corpus.shards
        }
        candidates, excluded = without_excluded(shards, exclusions, out / SCRATCH)
        regroup(joint=candidates, top_share=mixture.top_share, out=out)
        restore_rows(out, exclusions)
        excluded.write_parquet(out / "exclusions.parquet")
        write_percentile_ranges(joint=shards, documents=documents, out=out / "percentile_ranges.parquet")
        (out / "top_share.json").write_text(f"{mixture.top_share!r}\n")

    def show(artifact: Artifact) -> Metadata:
        return show_grouped_shards(artifact, joint)

    return scope.build(write, show, settings=grouping_slice(mixture, scope.settings))


def mixture_snapshots(scope: Scope, mixture: Mixture) -> list[str]:
    """The mixture's snapshots, in name order: those it names, or all that are registered."""
    if mixture.snapshots != "all":
        return sorted(mixture.snapshots)
    registered = sorted(scope.instance.get_dynamic_partitions("snapshot"))
    if not registered:
        raise AutomixerError(f"{scope.name}: no snapshot is registered: run `automixer snapshot add KEY`")
    return registered


def plan_weight_manifest(scope: Scope) -> Build:
    """Which share of training tokens should each group get, and how often will its documents be read?

    Token-weighted density of the joint utility per group, normalised to weights (paper, section 5 and Appendix B).
    """
    mixture = scope.settings.mixture(scope.key)
    recipe = scope.settings.recipe(mixture.recipe)
    grouped = scope.pin("grouped_shards", scope.key, settings=grouping_slice(mixture, scope.settings))
    if recipe.scorer == "influence":
        origins = _origins(scope.pin("selected_checkpoints", mixture.recipe, settings=selection_slice(recipe)))
    else:
        origins = list(UniformScorer().groups)
    names = sorted({selection.snapshot for selection in list_selections(grouped.path)})
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).path) for name in names}
    pin_removed(scope, names)  # groups that were made before the list named some of their documents are refused

    def write(out: Path) -> Written:
        manifest = build_manifest(
            name=scope.key,
            mixture=mixture,
            recipe=recipe,
            origins=origins,
            grouped=grouped.path,
            lake_root=scope.lake.root,
            tokenizer_digest=corpora[names[0]].tokenizer_digest,
            pins=[ManifestPin(**vars(pin)) for pin in scope.pins],
            created_by=CreatedBy(version=__version__, git_commit=git_commit()),
        )
        write_exposure(
            selections=list_selections(grouped.path),
            snapshots=corpora,
            passes={group.name: group.exposure for group in manifest.groups},
            out=out / "exposure.parquet",
        )
        write_manifest(manifest, out / "manifest.json")
        return Written(content=manifest.digest)  # the file also says when and where it was made

    return scope.build(write, show_weight_manifest, settings=[mixture.model_dump(), recipe.model_dump()])
