"""A run in Dagster that the settings move to Ray: the same files, and in its log what the cluster did."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from automixer_assets_tests.launch.nodes import require_ray
from automixer_assets_tests.world import World, contents, create_world

require_ray()
ON_RAY = {"launchers.scoring": "ray", "launchers.corpus": "ray", "launchers.mixture": "ray"}


@pytest.fixture(scope="module")
def world(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = create_world(tmp_path_factory.mktemp("run") / "world")
    yield world
    world.close()


def require_same_on_ray(world: World, asset: str, partition: str) -> None:
    """Lose the artefact, make it again by other settings: its files, its data version, and the cluster in the log."""
    local, version = contents(world.path(asset, partition)), world.latest(asset, partition).pin.data_version
    shutil.rmtree(world.path(asset, partition))
    assert world.run(asset, partition, force=True, overrides=ON_RAY) == [f"{asset}[{partition}]"]
    assert contents(world.path(asset, partition)) == local
    assert world.latest(asset, partition).pin.data_version == version
    (run,) = world.instance.get_runs(limit=1)
    said = [entry.user_message for entry in world.instance.all_logs(run.run_id)]
    assert any("a Ray worker on " in line and "is ready" in line for line in said), said


def test_settings_alone_move_corpus_assets(world: World) -> None:
    world.run("+tokenized_corpus")
    require_same_on_ray(world, "snapshot_inventory", "MW-2026-01")
    require_same_on_ray(world, "tokenized_corpus", "MW-2026-01")


def test_settings_alone_move_scoring(world: World) -> None:
    world.run("+selected_checkpoints")
    made = world.run("+demo/checkpoint_influence")
    cell = next(name for name in made if name.startswith("demo/checkpoint_influence["))
    require_same_on_ray(world, "demo/checkpoint_influence", cell.partition("[")[2].rstrip("]"))


def test_settings_alone_move_joint_influence_and_groups(world: World) -> None:
    made = world.run("+grouped_shards")
    for asset in ("joint_influence", "grouped_shards"):
        cell = next(name for name in made if name.startswith(f"{asset}["))
        require_same_on_ray(world, asset, cell.partition("[")[2].rstrip("]"))
