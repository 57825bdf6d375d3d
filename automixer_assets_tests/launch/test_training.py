"""Claims about proxies and targets that Dagster trains in two processes: gloo, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import psutil
import pytest

from automixer_assets.progress import Pace
from automixer_assets_tests.launch.test_torchrun import ended
from automixer_assets_tests.test_kill_and_resume import killed_at_the_end, log_of, resume_states, start, wait_until
from automixer_assets_tests.world import TARGET_STEPS, World, contents, create_world

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-3
"""Relative, of float32 losses: sums are taken in another order, and what differs in the last bits grows by the step."""
RUN = "demo/proxy_run"
TWO = {
    "launchers.training": "torchrun",
    "launchers.torchrun": {"processes": 2},
    "proxies.demo.training.resume_every": 5,
}
SET = [text for name, value in TWO.items() for text in ("--set", f"{name}={value}")]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with a proxy that was trained in one process, and nothing that comes after it."""
    world = create_world(tmp_path_factory.mktemp("begun") / "world")
    world.run(f"+{RUN}")
    yield world
    world.close()


@pytest.fixture
def one(begun: World, tmp_path: Path) -> Iterator[World]:
    copy = begun.copy(tmp_path / "one")
    yield copy
    copy.close()


def processes_below(folder: Path) -> list[psutil.Process]:
    """Those that name a path below `folder` in their command."""
    listed = psutil.process_iter(["cmdline"])
    return [each for each in listed if any(str(folder) in text for text in each.info["cmdline"] or ())]


def losses(world: World) -> np.ndarray:
    return world.table(RUN, None, "training.parquet")["loss"].to_numpy()


def test_two_processes_make_the_run_of_one_up_to_rounding_under_a_name_of_its_own(
    one: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "SHORTEST", 0.0)
    monkeypatch.setattr(Pace, "POINTS", 6)
    alone, expected = one.artifact(RUN).uri, losses(one)
    assert one.run(RUN, overrides=TWO) == [RUN]
    assert one.artifact(RUN).uri != alone
    np.testing.assert_allclose(losses(one), expected, rtol=TOLERANCE)
    records = one.instance.fetch_observations(dg.AssetKey(["demo", "proxy_run"]), limit=6).records
    points = [record.asset_observation.metadata for record in reversed(records) if record.asset_observation]
    assert [point["training step"].value for point in points] == [10, 20, 30, 40, 50, 60]
    assert points[-1]["training loss"].value == pytest.approx(losses(one)[-10:].mean())

    assert one.run(RUN, overrides=TWO) == []
    assert one.run(RUN) == [RUN]
    assert one.artifact(RUN).uri == alone, "what one process made is found again"


def test_a_killed_run_leaves_no_process_and_ends_as_an_unbroken_one(one: World, begun: World, tmp_path: Path) -> None:
    with killed_at_the_end(start(one, RUN, *SET)) as process:
        assert wait_until(lambda: resume_states(one) != [], process), log_of(one)
    assert resume_states(one) != [], "it was killed before it had finished"
    assert ended(processes_below(one.folder))
    assert one.run(RUN, overrides=TWO) == [RUN]
    unbroken = begun.copy(tmp_path / "unbroken")
    try:
        unbroken.run(RUN, overrides=TWO)
        assert contents(one.path(RUN)) == contents(unbroken.path(RUN))
    finally:
        unbroken.close()


def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_runs(one: World) -> None:
    with pytest.raises(Exception, match=r"batch_size is 4, which launchers\.torchrun\.processes, 3, does not divide"):
        one.run(RUN, overrides=TWO | {"launchers.torchrun": {"processes": 3}})


def test_a_target_is_trained_by_two_processes_too(world: World) -> None:
    seeds = {"targets.seeds": [0], "targets.fewer_seeds": {}}
    world.run("target_runs", "demo", overrides=seeds)
    alone, expected = world.artifact("target_runs", "demo").uri, world.table("target_runs", "demo", "curves.parquet")
    assert world.run("target_runs", "demo", overrides=TWO | seeds) == ["target_runs[demo]"]
    assert world.artifact("target_runs", "demo").uri != alone
    curve = world.table("target_runs", "demo", "curves.parquet")
    assert curve["step"].to_list() == list(range(1, TARGET_STEPS + 1))
    np.testing.assert_allclose(curve["loss"], expected["loss"], rtol=TOLERANCE)
    assert world.table("target_runs", "demo", "benchmark.parquet").select(pl.col("step").unique()).height == 1
