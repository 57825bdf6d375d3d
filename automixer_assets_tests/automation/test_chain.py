"""The daily life of a data team, without a daemon: a snapshot arrives, is scored once, and mixtures follow."""

from __future__ import annotations

from pathlib import Path

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
