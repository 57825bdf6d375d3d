"""The paper's Table 1 over all proxies."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from automixer_assets.benchmark.progress_ratio import EvaluatedProxy, progress_ratios
from automixer_assets.code_versions import source_version
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.pages.progress_ratios import show_progress_ratios
from automixer_assets.settings import ChanceFallback, SelectionMetric, Settings

PAPER_RULE: tuple[SelectionMetric, ChanceFallback] = ("acc", "gold_nll")
"""Table 1's metric, with the guard of DESIGN (best step); shown whatever the recipes select by."""


def progress_ratio_asset(settings: Settings) -> LakeAsset:
    """One table over every proxy of the settings."""
    return lake_asset(
        asset="progress_ratio_table",
        group="evaluation",
        kinds={"polars"},
        code=source_version("benchmark.progress_ratio", "benchmark.trajectories", "benchmark.stability"),
        plan=plan_progress_ratio_table,
        deps=[f"{proxy}/{asset}" for proxy in settings.proxies for asset in ("proxy_run", "benchmark_table")],
    )


def plan_progress_ratio_table(scope: Scope) -> Build:
    """Where in the run does each skill peak?

    Per task and proxy the best step in percent of the run (paper, Table 1), by accuracy and by every recipe's metric.
    """
    runs = {proxy: scope.pin(f"{proxy}/proxy_run") for proxy in scope.settings.proxies}
    tables = {proxy: scope.pin(f"{proxy}/benchmark_table") for proxy in scope.settings.proxies}
    rules = sorted({PAPER_RULE, *_rules(scope.settings)})

    def write(out: Path) -> None:
        proxies = [
            EvaluatedProxy(
                name=proxy,
                parameters=json.loads((runs[proxy].path / "run.json").read_text())["parameters"],
                benchmark=pl.read_parquet(table.path / "benchmark.parquet"),
                items=pl.read_parquet(table.path / "items.parquet"),
            )
            for proxy, table in tables.items()
        ]
        progress_ratios(proxies, rules).write_parquet(out / "progress_ratios.parquet")

    def show(artifact: Artifact) -> Metadata:
        return show_progress_ratios(artifact, tables)

    return scope.build(write, show, settings=rules)


def _rules(settings: Settings) -> list[tuple[SelectionMetric, ChanceFallback]]:
    """What live recipes choose a best step by."""
    return [
        (recipe.selection_metric, recipe.chance_fallback)
        for recipe in settings.recipes.values()
        if recipe.uses_checkpoints
    ]
