"""The daily life of a data team, without a daemon: a snapshot arrives, is scored once, and mixtures follow."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from automixer_assets.corpus.sources import MARKER
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets_tests.automation.daemon import Daemon
from automixer_assets_tests.world import FIRST_SNAPSHOTS, MIXTURES, NEW_SNAPSHOT, World, fingerprints


@pytest.fixture
def daemon(world: World) -> Daemon:
    return Daemon(world)


def drop_snapshot(world: World, name: str = NEW_SNAPSHOT, *, rows: int | None = None) -> Path:
    """A snapshot as an uploader leaves it: other documents than those that are there, and the marker last."""
    source = pl.concat(pl.read_parquet(path) for path in sorted((world.sources / FIRST_SNAPSHOTS[1]).glob("*.parquet")))
    folder = world.sources / name
    folder.mkdir()
    renamed = source.with_columns(pl.col("id") + f"-{name}", pl.col("text") + f" So it was in {name}.")
    renamed.head(rows or 60).write_parquet(folder / "part-0.parquet")
    (folder / MARKER).touch()
    return folder


def test_nothing_new_asks_for_nothing(daemon: Daemon):
    assert daemon.settle() == []
    assert daemon.said == ["nothing new"]
    assert daemon.schedule("reinventory") == []
    assert daemon.schedule("rebuild_mixtures") == []


def test_a_snapshot_is_registered_scored_at_the_selected_checkpoints_and_mixed(world: World, daemon: Daemon):
    before = fingerprints(world.lake.root / "checkpoint_influence")
    drop_snapshot(world)

    assert daemon.settle() == [
        *(f"{asset}[{NEW_SNAPSHOT}]" for asset in ("snapshot_inventory", "leakage", "tokenized_corpus")),
        *(f"demo/checkpoint_influence[{checkpoint}|{NEW_SNAPSHOT}]" for checkpoint in world.checkpoints()),
        *(f"joint_influence[{recipe}|{NEW_SNAPSHOT}]" for recipe in MIXTURES),
    ]
    assert before.items() <= fingerprints(world.lake.root / "checkpoint_influence").items()
    assert daemon.settle() == [], "every partition once"

    assert [request.partition_key for request in daemon.schedule("rebuild_mixtures")] == list(MIXTURES)
    manifest = load_manifest(world.path("weight_manifest", "demo") / "manifest.json")
    assert manifest.snapshots == [*FIRST_SNAPSHOTS, NEW_SNAPSHOT]
    assert daemon.schedule("rebuild_mixtures") == []
    assert world.run("+group_characteristics") == [], "the daemon and the command line agree on what is current"


def observed(world: World, asset: str, partition: str | None = None) -> list[str]:
    wanted = dg.AssetRecordsFilter(
        dg.AssetKey.from_user_string(asset), asset_partitions=None if partition is None else [partition]
    )
    records = world.instance.fetch_observations(wanted, limit=10).records
    return [str(record.asset_observation.description) for record in records if record.asset_observation]


def test_a_known_snapshot_that_changed_is_scored_again_and_one_that_lost_documents_is_only_said(
    world: World, daemon: Daemon
):
    folder = drop_snapshot(world)
    daemon.settle()
    more = pl.read_parquet(folder / "part-0.parquet").head(5)
    more.with_columns(pl.col("id") + "-more").write_parquet(folder / "part-1.parquet")
    (folder / MARKER).unlink()
    assert daemon.settle() == [], "by day, known snapshots are not looked at"
    assert daemon.schedule("reinventory") == []
    assert "changed and has no _SUCCESS: it may still be written" in daemon.said[0]

    (folder / MARKER).touch()
    assert [request.partition_key for request in daemon.schedule("reinventory")] == [NEW_SNAPSHOT]
    assert daemon.settle() == [
        *(f"demo/checkpoint_influence[{checkpoint}|{NEW_SNAPSHOT}]" for checkpoint in world.checkpoints()),
        *(f"joint_influence[{recipe}|{NEW_SNAPSHOT}]" for recipe in MIXTURES),
    ]

    (folder / "part-1.parquet").unlink()
    assert daemon.schedule("reinventory") == []
    assert "lost 1 of its 2 files, first part-1.parquet: mixtures go on with what was read before" in daemon.said[0]
    assert observed(world, "snapshot_inventory", NEW_SNAPSHOT) == daemon.said
    assert daemon.settle() == []


def test_a_new_proxy_run_offers_its_scoring_and_starts_none(world: World, daemon: Daemon):
    """Every checkpoint is another one: all scores are stale, joint influence would mix two runs, and nothing runs."""
    daemon.tick("stale_scores")
    assert daemon.said == [f"all {2 * len(world.checkpoints())} scores of demo are current"]
    for selection in ("+selected_checkpoints", "demo/proxy_checkpoints"):
        world.run(selection, overrides={"proxies.demo.training.learning_rate": 0.009})

    assert daemon.settle() == []
    daemon.tick("stale_scores")
    (offer,) = daemon.said
    tokens = sum(int(world.table("tokenized_corpus", key, "*.parquet")["n_tokens"].sum()) for key in FIRST_SNAPSHOTS)
    assert f"reads {len(world.checkpoints()) * tokens:,} tokens (time: about " in offer
    assert observed(world, "demo/checkpoint_influence")[0] == offer
    drop_snapshot(world)
    ran = daemon.settle()
    assert [name for name in ran if "influence" in name] == [f"joint_influence[uniform|{NEW_SNAPSHOT}]"]
    assert f"{NEW_SNAPSHOT} is not scored by demo: its query at" in daemon.said[0], "no query is fitted by surprise"
