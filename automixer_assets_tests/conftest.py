"""Shared worlds: one that is materialised once per session and only read, and copies of it to change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage
from filelock import FileLock

from automixer_assets_tests.world import World, copy_world, create_world


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker gets a whole file, or all that read `answers`: what they share is made once and may be changed."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            shared = "answers" if "answers" in getattr(item, "fixturenames", ()) else item.path.stem
            item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(autouse=True)
def no_instance_left_over() -> Iterator[None]:
    """See `World.active`."""
    with set_defs_state_storage(None):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose whole pipeline has run over the first two snapshots. Tests read it and change nothing."""
    made = _made_once(tmp_path_factory.getbasetemp())
    world = copy_world(made, tmp_path_factory.mktemp("finished") / "world")
    yield world
    world.close()


def _made_once(own: Path) -> Path:
    """The first worker makes the world beside its own folder `own`; those that come later wait for it."""
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished-world"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            made = create_world(own / "making-the-world" / "world")
            made.run()
            assert len(made.checkpoints()) >= 2, "too few groups to test: the tiny proxy selects one checkpoint"
            made.close()
            made.folder.rename(shared)
    return shared


@pytest.fixture
def world(finished: World, tmp_path: Path) -> Iterator[World]:
    """A copy of the finished world, to change."""
    copy = finished.copy(tmp_path / "world")
    yield copy
    copy.close()
