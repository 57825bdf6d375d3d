"""Drift warns on the page of what drifted, names the cause, and stops nothing."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.drift import MIXTURE_DRIFT, SNAPSHOT_DRIFT
from automixer_assets.corpus.inventory import source_files
from automixer_assets.lake_asset import Comparison
from automixer_assets_tests.world import FIRST_SNAPSHOTS, NEW_SNAPSHOT, World


def latest_check(world: World, asset: str, comparison: Comparison) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey(asset), comparison.name)
    (record,) = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    evaluation = record.event.dagster_event.event_specific_data
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    return evaluation


def test_a_snapshot_like_those_before_it_passes_and_the_first_has_nothing_to_be_compared_with(finished: World):
    found = latest_check(finished, "joint_influence", SNAPSHOT_DRIFT)
    assert found.passed, found.description
    manifest = latest_check(finished, "weight_manifest", MIXTURE_DRIFT)
    assert (manifest.passed, manifest.description) == (True, "there is no earlier version to compare with")


def test_a_snapshot_of_long_foreign_documents_warns_and_the_mixture_names_it(world: World):
    world.add_snapshot()
    for file in source_files(world.sources / NEW_SNAPSHOT):
        _make_foreign_and_long(file.path)
    assert "weight_manifest[demo]" in world.run("+weight_manifest", "demo", overrides={"drift.weight_shift": 1e-6})

    found = latest_check(world, "joint_influence", SNAPSHOT_DRIFT)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    said = found.description or ""
    assert said.startswith(f"{NEW_SNAPSHOT} against {', '.join(FIRST_SNAPSHOTS)}: ")
    for column in ("n_tokens: stability index", "language: stability index"):
        assert column in said
    assert {"movements", "joint utility, previous and new"} <= found.metadata.keys()

    mixture = latest_check(world, "weight_manifest", MIXTURE_DRIFT)
    assert (mixture.passed, mixture.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"snapshot {NEW_SNAPSHOT} is new" in (mixture.description or "")
    assert "weight of " in (mixture.description or "")
    assert world.run("+group_characteristics", "demo"), "a warning stops nothing"


def test_another_setting_is_named_as_what_moved_the_thresholds(world: World):
    world.run("+weight_manifest", "demo", overrides={"mixtures.demo.top_share": 0.25})
    found = latest_check(world, "weight_manifest", MIXTURE_DRIFT)
    assert not found.passed
    assert "past 25.1% of the documents" in (found.description or ""), "201 of 401 were kept"
    assert "mixtures.demo.top_share 0.5 → 0.25" in (found.description or "")


def _make_foreign_and_long(path: Path) -> None:
    table = pl.read_parquet(path)
    text = pl.concat_str([pl.col("text")] * 3, separator=" ")
    table.with_columns(text.alias("text"), pl.lit("fr").alias("language")).write_parquet(path)
