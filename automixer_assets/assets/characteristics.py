"""The asset that says why: what sets a mixture's groups apart from the corpus."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from automixer_assets.assets.leakage import leakage_deps, pin_leakage
from automixer_assets.assets.mixture import grouping_slice
from automixer_assets.assets.recipes import joint_shards, joint_slice
from automixer_assets.assets.scorer_inputs import required_file
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.lake import file_sha256
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.mixture.characteristics import Decode, GroupedCorpus, write_characteristics
from automixer_assets.mixture.deciles import NO_LABELS, Labels, read_labels, write_deciles
from automixer_assets.mixture.groups import list_selections
from automixer_assets.pages.characteristics import show_group_characteristics
from automixer_assets.partitions import MIXTURES, multi_key

STATEMENTS = (
    "document_values",
    "characteristic_values",
    "document_numbers",
    "sampled_documents",
    "sampled_members",
    "group_examples",
    "leaked_by_source",
    "utility_histogram",
    "bucket_utilities",
    "utility_at_rank",
    "candidate_totals",
    "group_candidates",
    "decile_sums",
    "planted_retrieval",
)


def characteristics_assets() -> list[LakeAsset]:
    """One table set per mixture."""
    return [
        lake_asset(
            asset="group_characteristics",
            group="mixture",
            kinds={"duckdb", "polars"},
            code=sql_version(*STATEMENTS)
            + source_version("mixture.characteristics", "mixture.deciles", "corpus.words"),
            plan=plan_group_characteristics,
            partitions_def=MIXTURES,
            deps=[
                "grouped_shards",
                "tokenizer",
                dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
                dg.AssetDep("joint_influence", partition_mapping=dg.AllPartitionMapping()),
                *leakage_deps(),
            ],
        )
    ]


def plan_group_characteristics(scope: Scope) -> Build:
    """Why these documents: what sets each group apart from the corpus, and does it repeat benchmark items?

    Characteristic terms, domains, languages and sources, quality and length, some documents, and leaked ones by source;
    length, quality, sources and known labels by decile of utility (the paper's Figure 5).
    """
    settings, mixture = scope.settings, scope.settings.mixture(scope.key)
    grouped = scope.pin("grouped_shards", scope.key, settings=grouping_slice(mixture, settings))
    tokenizer = scope.pin("tokenizer")
    selections = list_selections(grouped.by_file)
    names = sorted({selection.snapshot for selection in selections})
    corpus = GroupedCorpus(
        selections,
        {name: open_tokenized(scope.pin("tokenized_corpus", name).by_file) for name in names},
        pin_leakage(scope, names),
    )

    made_with = joint_slice(settings.recipe(mixture.recipe), settings)
    joint = {
        name: scope.pin("joint_influence", multi_key(recipe=mixture.recipe, snapshot=name), settings=made_with)
        for name in names
    }

    def write(out: Path) -> None:
        write_characteristics(corpus, _decoder(tokenizer.path), out)
        write_deciles(
            joint=joint_shards(joint),
            documents={
                (name, shard.name): shard.documents_path
                for name, snapshot in corpus.snapshots.items()
                for shard in snapshot.shards
            },
            labels=_labels(scope),
            top_share=mixture.top_share,
            out=out,
        )

    return scope.build(write, show_group_characteristics, settings=labels_slice(scope))


def labels_slice(scope: Scope) -> object:
    """What determines the labels; None without any, as it was before there were labels."""
    chosen = scope.settings.corpus.labels
    if chosen is None:
        return None
    path = required_file(scope.automixer.resolve(chosen.file), "corpus.labels.file")
    return [file_sha256(path), chosen.model_dump(exclude={"file"})]


def _labels(scope: Scope) -> Labels:
    chosen = scope.settings.corpus.labels
    if chosen is None:
        return NO_LABELS
    path = required_file(scope.automixer.resolve(chosen.file), "corpus.labels.file")
    return read_labels(path, column=chosen.column, id_column=chosen.id_column, planted=chosen.planted)


def _decoder(tokenizer: Path) -> Decode:
    from automixer_assets.proxy.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    return lambda ids: loaded.batch_decode(ids, clean_up_tokenization_spaces=False)
