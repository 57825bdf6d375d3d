"""Shared worlds: one that is materialised once per session and only read, and copies of it to change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from automixer_assets_tests.world import World, create_world


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker gets all readers of the finished world, so that it is made once."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("finished world"))


@pytest.fixture(autouse=True)
def no_instance_left_over() -> Iterator[None]:
    """See `World.active`."""
    with set_defs_state_storage(None):
        yield


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
