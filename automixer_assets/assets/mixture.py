"""Assets of a mixture: groups of documents, and the weight manifest."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from automixer_assets import __version__
from automixer_assets.assets.drift import MIXTURE_DRIFT
from automixer_assets.assets.leakage import exclusion_deps, pin_exclusions, pin_removed
from automixer_assets.assets.recipes import joint_shards, joint_slice
from automixer_assets.assets.scorer_inputs import selection_slice
from automixer_assets.checks import (
    LIMITS_FILE,
    check_budget,
    check_document_exposure,
    check_group_epochs,
    check_group_sizes,
    check_kept,
    check_schema,
    check_shortfall,
    check_weights,
)
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import SCRATCH, Artifact, Written
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.launch.passes import mixture_passes
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.candidates import restore_rows, without_copies, without_excluded
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.item_uncertainty import read_contributions
from automixer_assets.mixture.ledger import require_document_epochs, write_ledger
from automixer_assets.mixture.manifest import CreatedBy, write_manifest
from automixer_assets.mixture.manifest import Pin as ManifestPin
from automixer_assets.mixture.percentiles import write_percentile_ranges
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.score_columns import selected_origins
from automixer_assets.pages.mixture import (
    show_grouped_shards,
    show_weight_manifest,
)
from automixer_assets.pages.pins import lineage_plot
from automixer_assets.partitions import MIXTURES, multi_key
from automixer_assets.settings import Mixture, Recipe, Settings
from automixer_assets.version import git_commit

GROUP = "mixture"
GROUPING_SQL = (
    "candidate_totals",
    "group_candidates",
    "utility_histogram",
    "bucket_utilities",
    "utility_at_rank",
    "tied_rows",
    "tied_documents",
    "last_tied_documents",
    "kept_utility",
    "group_memberships",
    "group_overlap",
    "later_copies",
)
BUDGET_SQL = ("shared_contents", "sample_keys", "sample_key_histogram", "sample_cutoff")
LEDGER_SQL = ("exposure", "most_read")
PERCENTILE_SQL = ("percentile_ranges", "percentile_statistics")


def mixture_assets() -> list[LakeAsset]:
    """From joint influence to a mixture's weights."""
    return [
        lake_asset(
            asset="grouped_shards",
            group=GROUP,
            kinds={"duckdb", "parquet"},
            code=sql_version(*GROUPING_SQL, *PERCENTILE_SQL)
            + source_version(
                "mixture.regroup",
                "mixture.passes",
                "mixture.thresholds",
                "mixture.percentiles",
                "mixture.candidates",
                "mixture.subsample",
            ),
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
        code=sql_version("group_density", "appendix_b_products", "density_buckets", *BUDGET_SQL, *LEDGER_SQL)
        + source_version(
            "mixture.build",
            "mixture.weights",
            "mixture.uncertainty",
            "mixture.item_uncertainty",
            "mixture.budget",
            "mixture.constraints",
            "mixture.subsample",
            "mixture.exposure",
            "mixture.ledger",
            "mixers",
            "mixers.group_size",
            "mixers.influence_density",
        ),
        plan=plan_weight_manifest,
        partitions_def=MIXTURES,
        deps=[
            "grouped_shards",
            "item_contributions",
            dg.AssetDep("selected_checkpoints", partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
            dg.AssetDep("removed_documents", partition_mapping=dg.AllPartitionMapping()),
        ],
        checks=[
            Check("follows_its_schema", "manifest.json validates against the shipped JSON Schema.", check_schema),
            Check("weights_sum_to_one", "Weights are in [0, 1] and sum to 1.", check_weights),
            Check("token_budget_respected", "Allocated tokens and shortfall add up to the budget.", check_budget),
            Check("documents_within_limit", "No text is read more often than `limits` allow.", check_document_exposure),
            Check("groups_within_limit", "No group is read more often than `limits` allow.", check_group_epochs),
            Check("shortfall_within_limit", "Caps leave no more of the budget than `limits` allow.", check_shortfall),
            Check("groups_are_large_enough", "Every group has what `limits` ask for.", check_group_sizes),
        ],
        comparisons=[MIXTURE_DRIFT],
    )


def grouping_slice(mixture: Mixture, settings: Settings) -> object:
    """What of a mixture and its recipe determines its groups."""
    cheap = None if mixture.filter is None else mixture.filter.model_dump()
    excluded = [mixture.leaked_documents, mixture.copies, settings.corpus.removal_list is not None, cheap]
    return [mixture.top_share, mixture.snapshots, excluded, joint_slice(settings.recipe(mixture.recipe), settings)]


def plan_grouped_shards(scope: Scope) -> Build:
    """Which documents are in which group, and how far do the groups overlap?

    Per group the top share of documents by its utility, over the union of the mixture's snapshots; documents that the
    mixture excludes take no part. Dagster marks it as unsynced also when another recipe's joint influence was made;
    running it is then a lookup.
    """
    mixture = scope.settings.mixture(scope.key)
    made_with = joint_slice(scope.settings.recipe(mixture.recipe), scope.settings)
    joint = {
        snapshot: scope.pin("joint_influence", multi_key(recipe=mixture.recipe, snapshot=snapshot), settings=made_with)
        for snapshot in mixture_snapshots(scope, mixture)
    }
    exclusions = pin_exclusions(scope, mixture, list(joint))

    corpora = {snapshot: open_tokenized(scope.pin("tokenized_corpus", snapshot).by_file) for snapshot in joint}

    def write(out: Path) -> None:
        shards = joint_shards(joint)
        documents = {
            (snapshot, shard.name): shard.documents_path
            for snapshot, corpus in corpora.items()
            for shard in corpus.shards
        }
        left_out = exclusions
        if mixture.copies == "first":
            left_out = without_copies(exclusions, documents, out / SCRATCH)
        candidates, excluded = without_excluded(shards, left_out, out / SCRATCH)
        with mixture_passes(scope.settings.launchers, out / SCRATCH / "passes", scope.log) as over:
            regroup(joint=candidates, top_share=mixture.top_share, out=out, passes_over=over)
            ranges = out / "percentile_ranges.parquet"
            write_percentile_ranges(joint=shards, documents=documents, out=ranges, passes_over=over)
        restore_rows(out, left_out)
        excluded.write_parquet(out / "exclusions.parquet")
        (out / "top_share.json").write_text(f"{mixture.top_share!r}\n")

    def show(artifact: Artifact) -> Metadata:
        return {**show_grouped_shards(artifact, joint), **show_lineage(scope)}

    return scope.build(write, show, settings=grouping_slice(mixture, scope.settings))


def mixture_snapshots(scope: Scope, mixture: Mixture) -> list[str]:
    """The mixture's snapshots, in name order: those it names, or all that are registered."""
    if mixture.snapshots != "all":
        return sorted(mixture.snapshots)
    registered = sorted(scope.instance.get_dynamic_partitions("snapshot"))
    if not registered:
        raise AutomixerError(f"{scope.name}: no snapshot is registered: run `automixer snapshot add KEY`")
    return registered


def manifest_slice(mixture: Mixture, recipe: Recipe) -> object:
    """What of a mixture and its recipe determines its manifest."""
    return [mixture.model_dump(exclude={"exports"}), recipe.model_dump()]


def plan_weight_manifest(scope: Scope) -> Build:
    """Which share of training tokens should each group get, and how often will its documents be read?

    Token-weighted density of the joint utility per group, normalised to weights (paper, section 5 and Appendix B).
    """
    mixture = scope.settings.mixture(scope.key)
    recipe = scope.settings.recipe(mixture.recipe)
    made_with = grouping_slice(mixture, scope.settings)
    grouped = scope.pin("grouped_shards", scope.key, settings=made_with)
    carried = None
    if scope.settings.resamples_items(scope.key):
        carried = scope.pin("item_contributions", scope.key, settings=made_with)
    if recipe.strategy.origins is None:
        selected = scope.pin("selected_checkpoints", mixture.recipe, settings=selection_slice(recipe))
        origins = selected_origins(selected.path)
    else:
        origins = recipe.strategy.origins(recipe.options)
    names = sorted({selection.snapshot for selection in list_selections(grouped.by_file)})
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).by_file) for name in names}
    pin_removed(scope, names)  # groups that were made before the list named some of their documents are refused

    def write(out: Path) -> Written:
        manifest = build_manifest(
            name=scope.key,
            mixture=mixture,
            recipe=recipe,
            origins=origins,
            grouped=grouped.by_file,
            lake_root=scope.lake.root,
            tokenizer_digest=corpora[names[0]].tokenizer_digest,
            pins=[ManifestPin(**vars(pin)) for pin in scope.pins],
            created_by=CreatedBy(version=__version__, git_commit=git_commit()),
            contributions=None if carried is None else read_contributions(carried.path),
            snapshots=corpora,
        )
        write_ledger(manifest, grouped.by_file, corpora, out)
        require_document_epochs(mixture.max_document_epochs, out)
        (out / LIMITS_FILE).write_text(mixture.limits.model_dump_json(indent=1) + "\n")
        write_manifest(manifest, out / "manifest.json")
        return Written(content=manifest.digest)  # the file also says when and where it was made

    def show(artifact: Artifact) -> Metadata:
        return {**show_weight_manifest(artifact), **show_lineage(scope)}

    return scope.build(write, show, settings=manifest_slice(mixture, recipe))


def show_lineage(scope: Scope) -> Metadata:
    """The picture of all that a mixture is made from; `automixer lineage` names every file."""
    return {"lineage": lineage_plot(scope.instance, scope.name, scope.pins)}
