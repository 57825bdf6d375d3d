"""The asset that says why: what sets a mixture's groups apart from the corpus."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from automixer_assets.assets.leakage import leakage_deps, pin_leakage
from automixer_assets.assets.mixture import grouping_slice
from automixer_assets.code_versions import source_version, sql_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.mixture.characteristics import Decode, GroupedCorpus, write_characteristics
from automixer_assets.mixture.groups import list_selections
from automixer_assets.pages.characteristics import show_group_characteristics
from automixer_assets.partitions import MIXTURES

STATEMENTS = (
    "document_values",
    "characteristic_values",
    "document_numbers",
    "sampled_documents",
    "sampled_members",
    "group_examples",
    "leaked_by_source",
)


def characteristics_assets() -> list[LakeAsset]:
    """One table set per mixture."""
    return [
        lake_asset(
            asset="group_characteristics",
            group="mixture",
            kinds={"duckdb", "polars"},
            code=sql_version(*STATEMENTS) + source_version("mixture.characteristics", "corpus.words"),
            plan=plan_group_characteristics,
            partitions_def=MIXTURES,
            deps=[
                "grouped_shards",
                "tokenizer",
                dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
                *leakage_deps(),
            ],
        )
    ]


def plan_group_characteristics(scope: Scope) -> Build:
    """Why these documents: what sets each group apart from the corpus, and does it repeat benchmark items?

    Characteristic terms, domains, languages and sources, quality and length, some documents, and leaked ones by source.
    """
    mixture = scope.settings.mixture(scope.key)
    grouped = scope.pin("grouped_shards", scope.key, settings=grouping_slice(mixture, scope.settings))
    tokenizer = scope.pin("tokenizer")
    selections = list_selections(grouped.path)
    names = sorted({selection.snapshot for selection in selections})
    corpus = GroupedCorpus(
        selections,
        {name: open_tokenized(scope.pin("tokenized_corpus", name).path) for name in names},
        pin_leakage(scope, names),
    )

    def write(out: Path) -> None:
        write_characteristics(corpus, _decoder(tokenizer.path), out)

    return scope.build(write, show_group_characteristics)


def _decoder(tokenizer: Path) -> Decode:
    from automixer_assets.proxy.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    return lambda ids: loaded.batch_decode(ids, clean_up_tokenization_spaces=False)
