"""Shared worlds: one that is materialised once per session and only read, and copies of it to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automixer_assets_tests.world import World, create_world

READERS_OF_THE_FINISHED_WORLD = (
    "test_definitions.py",
    "test_incremental.py",
    "test_kill_and_resume.py",
    "test_lineage.py",
    "test_pipeline.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Under `--dist loadgroup` one worker gets all readers of the finished world, so that it is made once.

    The mark `xdist_group` would say the same, but pytest-xdist 3.8 ignores it under pytest 9.2 (pytest-xdist #1386).
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class OneWorkerForTheFinishedWorld(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].rpartition("/")[2]
            return "finished world" if file in READERS_OF_THE_FINISHED_WORLD else nodeid

    return OneWorkerForTheFinishedWorld(config, log)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose whole pipeline has run over the first two snapshots. Tests read it and change nothing."""
    world = create_world(tmp_path_factory.mktemp("finished") / "world")
    world.run()
    assert len(world.checkpoints()) >= 2, "too few groups to test anything: the tiny proxy selects one checkpoint"
    yield world
    world.close()


@pytest.fixture
def world(finished: World, tmp_path: Path) -> Iterator[World]:
    """A copy of the finished world, to change."""
    copy = finished.copy(tmp_path / "world")
    yield copy
    copy.close()
