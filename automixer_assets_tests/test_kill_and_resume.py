"""A run that is killed at any moment goes on where it was, and ends with the same bytes as one that was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER
from automixer_assets_tests.world import World, contents, create_world

SEED = 20260
N_KILLS = 3
LONGEST_WAIT = 240.0


def start(world: World, *arguments: str) -> subprocess.Popen[str]:
    """`automixer materialize` in a process of its own; its output goes to `log.txt`."""
    log = (world.folder / "log.txt").open("a")
    return subprocess.Popen(
        [sys.executable, "-m", "automixer_assets.cli", "materialize", *arguments],
        env={**os.environ, **world.environment},
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """False if the process ended first."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.01)
    return True


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def n_published(world: World) -> int:
    return len(list(world.lake.root.glob(f"*/*/{MARKER}")))


def unfinished(world: World, kind: str) -> list[Path]:
    return list(world.lake.root.glob(f"{kind}/.partial-*"))


def resume_states(world: World) -> list[Path]:
    return [path for folder in unfinished(world, "proxy_run") for path in folder.glob("resume/step-*")]


def test_killed_runs_end_with_the_bytes_of_an_undisturbed_one(finished: World, tmp_path: Path):
    """Moments are a number of published artefacts and a pause after it, so a slow machine is killed as far along."""
    rng = random.Random(SEED)
    stretch = (n_published(finished) - 4) // N_KILLS  # the targets come last, so that no pause outlasts the run
    moments = [(rng.randrange(i * stretch, (i + 1) * stretch), rng.uniform(0, 0.5)) for i in range(N_KILLS)]
    world = create_world(tmp_path / "world")
    for count, pause in moments:
        with killed_at_the_end(start(world, "*")) as process:
            assert wait_until(lambda count=count: n_published(world) >= count, process), log_of(world)
            time.sleep(pause)
            assert process.poll() is None, f"the run ended before it could be killed: {log_of(world)}"
    with killed_at_the_end(start(world, "*")) as process:
        assert process.wait(LONGEST_WAIT) == 0, log_of(world)

    assert list(world.lake.root.rglob(".partial-*")) == []
    for mixture in ("demo", "uniform"):
        pins = [each.latest("weight_manifest", mixture).pin for each in (finished, world)]
        assert pins[0].data_version == pins[1].data_version, f"mixture {mixture} differs"
    folder = "checkpoint_influence"
    assert contents(world.lake.root / folder) == contents(finished.lake.root / folder)
    assert world.run() == []


def test_a_proxy_killed_in_the_middle_of_training_leaves_the_same_checkpoints(finished: World, world: World):
    shutil.rmtree(world.lake.root / "proxy_run")
    overrides = {"proxies.demo.training.resume_every": 5}
    with killed_at_the_end(start(world, "demo/proxy_run", "--set", "proxies.demo.training.resume_every=5")) as process:
        assert wait_until(lambda: resume_states(world) != [], process), log_of(world)
    assert resume_states(world) != [], "it was killed before it had finished"
    assert world.run("demo/proxy_run", overrides=overrides) == ["demo/proxy_run"]
    assert contents(world.path("demo/proxy_run") / "checkpoints") == contents(
        finished.path("demo/proxy_run") / "checkpoints"
    )
    assert unfinished(world, "proxy_run") == []


def test_a_second_process_is_refused_what_the_first_is_writing(world: World):
    with killed_at_the_end(start(world, "demo/proxy_run", "--set", "proxies.demo.training.steps=5000")) as process:
        assert wait_until(lambda: unfinished(world, "proxy_run") != [], process), log_of(world)
        (partial,) = unfinished(world, "proxy_run")
        with pytest.raises(AutomixerError, match=rf"^proxy_run/\w+ is being written by process {process.pid}: wait"):
            world.lake.publish("proxy_run", partial.name.removeprefix(".partial-"), lambda out: None)
        assert process.poll() is None, "the first one went on"


def test_two_processes_at_the_same_time_make_each_artefact_once(finished: World, world: World):
    """Whichever is later finds the artefact or is refused; what is made is what one process would have made."""
    shutil.rmtree(world.lake.root / "joint_influence")
    processes = [start(world, "joint_influence") for _ in range(2)]
    codes = [process.wait(LONGEST_WAIT) for process in processes]
    assert 0 in codes, log_of(world)
    assert set(codes) <= {0, 1}
    assert "Traceback" not in log_of(world)
    if 1 in codes:
        assert "is being written by process" in log_of(world)
    assert world.run() == []
    assert contents(world.lake.root / "joint_influence") == contents(finished.lake.root / "joint_influence")


def log_of(world: World) -> str:
    return (world.folder / "log.txt").read_text()
