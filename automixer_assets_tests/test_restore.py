"""What docs/operations.md says of restoring: from everything, and from a copy of the lake alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from automixer_assets.partitions import SNAPSHOTS, register
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World, fingerprints


def test_with_lake_and_database_restored_everything_is_current(world: World):
    """`world` is a copy in another folder."""
    before = fingerprints(world.lake.root)
    assert world.run() == []
    assert fingerprints(world.lake.root) == before


def test_with_the_lake_alone_restored_everything_is_found_and_nothing_is_made(finished: World, tmp_path: Path):
    """A new machine: settings and snapshots are there, an empty database, and the lake from its copy."""
    shutil.copytree(finished.sources.parent, tmp_path / "new" / "state" / finished.sources.parent.name)
    shutil.copy(finished.config, tmp_path / "new")
    shutil.copytree(finished.lake.root, tmp_path / "new" / "state" / "lake")
    world = World(tmp_path / "new")
    register(world.instance, SNAPSHOTS, list(FIRST_SNAPSHOTS))
    before = fingerprints(world.lake.root)

    ran = world.run()
    assert "demo/proxy_run" in ran and "weight_manifest[demo]" in ran, "there is an event of each again"
    assert fingerprints(world.lake.root) == before, "but every one of them was a lookup"
    for mixture in ("demo", "uniform"):
        pins = [each.latest("weight_manifest", mixture).pin for each in (finished, world)]
        assert pins[0].data_version == pins[1].data_version
    assert world.run() == []
    world.close()
