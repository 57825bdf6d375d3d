"""A step of a Dagster run that does its shards in a Ray job, and what ends the one ends the other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets_tests.launch.nodes import free_port, job_server, require_ray
from automixer_assets_tests.world import World, contents, create_world

require_ray("dagster_ray", "aiohttp")
SNAPSHOT = "MW-2026-01"
LONGEST_WAIT = 240.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with job_server() as address:
        yield address


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = create_world(tmp_path_factory.mktemp("submit") / "world")
    world.run("+tokenized_corpus")
    yield world
    world.close()


def submitted(address: str, **ray: Any) -> dict[str, Any]:
    options = {"jobs": address, "python": sys.executable, **ray}
    return {"launchers.corpus": "ray", **{f"launchers.ray.{name}": value for name, value in options.items()}}


def lost(world: World) -> dict[str, str]:
    """What the tokenised snapshot held, now gone."""
    held = contents(world.path("tokenized_corpus", SNAPSHOT))
    shutil.rmtree(world.path("tokenized_corpus", SNAPSHOT))
    return held


def test_a_step_that_runs_as_a_ray_job_writes_the_same_bytes(world: World, server: str) -> None:
    held, version = lost(world), world.latest("tokenized_corpus", SNAPSHOT).pin.data_version
    made = world.run("tokenized_corpus", SNAPSHOT, force=True, overrides=submitted(server))
    assert made == [f"tokenized_corpus[{SNAPSHOT}]"]
    assert contents(world.path("tokenized_corpus", SNAPSHOT)) == held
    assert world.latest("tokenized_corpus", SNAPSHOT).pin.data_version == version
    (run,) = world.instance.get_runs(limit=1)
    logs = world.instance.all_logs(run.run_id)
    said = [entry.user_message for entry in logs]
    assert any("a Ray worker on " in line and "is ready" in line for line in said), said
    (materialization,) = (event.asset_materialization for event in logs if event.asset_materialization is not None)
    job = materialization.metadata["Ray job"].value
    assert any(f"the Ray job {job} is done" in line for line in said)
    assert not list((world.state / "cache" / "ray-jobs").glob("*.json"))


def test_the_sentence_of_the_job_is_that_of_the_step(world: World, server: str) -> None:
    held = lost(world)
    with pytest.raises(AutomixerError, match=r"no Ray worker was ready for 3 s and \d+ shards wait.*needs 64 CPUs"):
        wanting = submitted(server, cpus_per_worker=64, patience_seconds=3)
        world.run("tokenized_corpus", SNAPSHOT, force=True, overrides=wanting)
    world.run("tokenized_corpus", SNAPSHOT, force=True)
    assert contents(world.path("tokenized_corpus", SNAPSHOT)) == held


def test_a_job_server_that_is_not_there_is_named(world: World) -> None:
    lost(world)
    with pytest.raises(
        AutomixerError, match=r"no Ray job server answers at launchers\.ray\.jobs 'http://127\.0\.0\.1:"
    ):
        world.run("tokenized_corpus", SNAPSHOT, force=True, overrides=submitted(f"http://127.0.0.1:{free_port()}"))
    world.run("tokenized_corpus", SNAPSHOT, force=True)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_job_ends_with_the_run_that_submitted_it(world: World, server: str, sign: signal.Signals) -> None:
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]

    client = JobSubmissionClient(server)
    before = {job.submission_id for job in client.list_jobs()}
    process = waiting(world, server)
    job = _first(lambda: next((job for job in client.list_jobs() if job.submission_id not in before), None), process)
    _first(lambda: client.get_job_status(job.submission_id) == "RUNNING", process)
    process.send_signal(sign)
    assert process.wait(LONGEST_WAIT) != 0
    _first(lambda: client.get_job_status(job.submission_id).is_terminal(), None)
    world.run("tokenized_corpus", SNAPSHOT, force=True)


def test_a_cluster_that_goes_away_is_named(world: World) -> None:
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]

    with job_server() as address:
        process = waiting(world, address)
        client = JobSubmissionClient(address)
        _first(lambda: any(job.status == "RUNNING" for job in client.list_jobs()), process)
    assert process.wait(LONGEST_WAIT) == 1
    said = (world.folder / "log").read_text()
    assert f"the Ray job at launchers.ray.jobs '{address}' ended without a word of its own" in " ".join(said.split())
    world.run("tokenized_corpus", SNAPSHOT, force=True)


def waiting(world: World, server: str) -> subprocess.Popen[bytes]:
    """A run whose job waits for workers that never come; it writes to `log`."""
    lost(world)
    options = submitted(server, cpus_per_worker=64)
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "automixer_assets.cli", "materialize", "tokenized_corpus", "--force"]
    command += ["--partition", SNAPSHOT, "--config", str(world.config), *settings]
    with (world.folder / "log").open("w") as log:
        return subprocess.Popen(
            command, env=os.environ | world.environment | {"COLUMNS": "400"}, stdout=log, stderr=log
        )


def _first(found: Any, process: subprocess.Popen[bytes] | None) -> Any:
    """What `found` returns once it is true; `process` must not end before."""
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        if result := found():
            return result
        assert process is None or process.poll() is None, "the run ended before its job"
        time.sleep(1)
    raise AssertionError("waited in vain")
