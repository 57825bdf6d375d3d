"""Evaluation assets: models trained on a mixture, and mixtures compared with the baseline at equal budget."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.simulation import BENCHMARK_VERSION
from automixer_assets.assets.target_runs import plan_target_runs, target_slice, targets_of
from automixer_assets.checks import ALL_ASKED, check_comparison, check_targets
from automixer_assets.code_versions import package_version, source_version
from automixer_assets.comparison import compare
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.pages.evaluation import show_comparison_table
from automixer_assets.partitions import MIXTURES

GROUP = "evaluation"
TARGET_VERSION = "2"
"""Raise when the training loop or the order of a mixture's documents changes what comes out."""


def evaluation_assets() -> list[LakeAsset]:
    """Does the mixture help? Trained targets per mixture, and their comparison."""
    return [
        lake_asset(
            asset="target_runs",
            group=GROUP,
            kinds={"torch", "lm-eval"},
            code=f"{TARGET_VERSION}-{BENCHMARK_VERSION}-{package_version('lm_eval')}",
            plan=plan_target_runs,
            partitions_def=MIXTURES,
            deps=[
                "weight_manifest",
                "tokenizer",
                "validation_items",
                dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
            ],
            checks=[Check("every_seed_finished", "Each seed has finite results on every task.", check_targets)],
            comparisons=[ALL_ASKED],
            pool="accelerator",
        ),
        lake_asset(
            asset="comparison_table",
            group=GROUP,
            kinds={"polars"},
            code=source_version("comparison"),
            plan=plan_comparison_table,
            deps=[dg.AssetDep("target_runs", partition_mapping=dg.AllPartitionMapping())],
            checks=[
                Check(
                    "all_paired", "Every result has a difference to the baseline of the same seeds.", check_comparison
                )
            ],
        ),
    ]


def plan_comparison_table(scope: Scope) -> Build:
    """Is the mixture better than the baseline at the same token budget, and by how much?

    Mean and spread over seeds per task, and the difference to the baseline paired by seed (paper, Table 2).
    """
    targets = targets_of(scope)
    names = [targets.baseline, *(name for name in targets.mixtures if name != targets.baseline)]
    shared = target_slice(scope, targets)
    runs = {name: scope.pin("target_runs", name, settings=[shared, targets.seeds_of(name)]) for name in names}

    def write(out: Path) -> None:
        tables = {name: pl.read_parquet(run.path / "benchmark.parquet") for name, run in runs.items()}
        items = {name: pl.read_parquet(run.path / "items.parquet") for name, run in runs.items()}
        compared = compare(tables, targets.baseline, items=items, set_aside=targets.set_aside)
        compared.write_parquet(out / "comparison.parquet")

    def show(artifact: Artifact) -> Metadata:
        return show_comparison_table(artifact, runs, targets.baseline)

    return scope.build(write, show, settings=[targets.baseline, targets.set_aside])
