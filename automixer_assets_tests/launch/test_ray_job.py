"""A stage submitted to a real job server in this machine: the local bytes, Dagster told of it, and no job left over."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.events import read_event
from automixer_assets.launch import ray_job
from automixer_assets.launch.ray_job import JobServer, Messages, SubmittedJob, last_said
from automixer_assets.launch.scoring import ScoringJob
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.influence.test_shards import contents, write_shard
from automixer_assets_tests.launch.dagster_run import SubmittedRun
from automixer_assets_tests.launch.nodes import free_port, job_server, require_ray
from automixer_assets_tests.launch.passes import expected, tiny_job, tiny_shards
from automixer_assets_tests.world import World, create_world
from automixer_assets_tests.world import contents as everything_in

require_ray("dagster_ray", "aiohttp_cors")
N_SHARDS = 4
LONG = 300.0
"""Seconds that a busy machine may take for what takes five on a quiet one."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with job_server() as url:
        yield url


@pytest.fixture
def shards(tmp_path: Path) -> list[TokenShard]:
    return tiny_shards(tmp_path, N_SHARDS)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoringJob:
    monkeypatch.setenv("AUTOMIXER_STATE", str(tmp_path / "state"))
    return tiny_job(tmp_path)


def test_a_job_writes_the_local_bytes_and_dagster_knows_of_it(
    url: str, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    run = SubmittedRun(job, shards, url)
    assert run.result.success, run.said
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")
    total = sum(int(shard.documents["n_tokens"].sum()) for shard in shards)
    assert len(run.seen) == N_SHARDS and run.seen[-1] == (total, total)
    assert any("a Ray worker on " in line and "is ready" in line for line in run.said), run.said
    shown = run.metadata
    assert shown["rows"] == 3 and shown["Ray job"].startswith("automixer-") and shown["Ray job server"] == url
    assert shown["Ray dashboard"] == f"{url}/#/jobs/{shown['Ray job']}"
    assert 1 <= sum(shown["Ray workers"].values()) <= 2 and shown["Ray cluster"]
    assert not list((tmp_path / "state").rglob("automixer-*")), "the handover and its lock are gone"


def test_a_failed_job_fails_with_its_own_sentence(
    url: str, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    bad = write_shard(tmp_path / "tokens", N_SHARDS, [[1, 2, 60000]])
    run = SubmittedRun(job, [bad, *shards], url)
    assert not run.result.success
    sentence = "automixer_assets.errors.AutomixerError: 1 of 5 shards failed 2 times each, the others are done"
    assert run.error.startswith(sentence) and "shard-00004" in run.error and run.error.count("\n") <= 1
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")


def test_workers_that_never_start_are_said(url: str, job: ScoringJob, shards: list[TokenShard]) -> None:
    run = SubmittedRun(job, shards, url, cpus_per_worker=64, patience_seconds=3)
    assert "no Ray worker was ready for 3 s and 4 shards wait: each worker needs 64 CPUs" in run.error


def test_a_python_that_is_not_there_is_said(url: str, job: ScoringJob, shards: list[TokenShard]) -> None:
    run = SubmittedRun(job, shards, url, job_python="no-such-python")
    assert "RayJobError" in run.error and "ended without a word of its driver" in run.error


def test_a_wrong_address_is_said(job: ScoringJob, shards: list[TokenShard]) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert (
        f"no Ray job server answers at launchers.ray.job_server '{nobody}'" in SubmittedRun(job, shards, nobody).error
    )


@pytest.mark.parametrize(("how", "ends"), [(signal.SIGINT, "STOPPED"), (signal.SIGKILL, "FAILED")])
def test_no_job_outlives_its_run(
    url: str, job: ScoringJob, shards: list[TokenShard], tmp_path: Path, how: signal.Signals, ends: str
) -> None:
    """A run that is cancelled stops its job; the job of one that is killed misses it. Its workers never start."""
    from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]

    (tmp_path / "run.pickle").write_bytes(pickle.dumps((job, shards, url)))
    command = [sys.executable, "-m", "automixer_assets_tests.launch.drivers", "submit_and_wait", str(tmp_path)]
    process = subprocess.Popen(command)
    client = JobSubmissionClient(url)
    (lock,) = wait_for(lambda: list((tmp_path / "state").rglob("automixer-*.lock")))
    wait_for(lambda: lock.stem in submissions(client) and client.get_job_status(lock.stem) == "RUNNING")
    process.send_signal(how)
    assert process.wait(LONG) != 0
    wait_for(lambda: client.get_job_status(lock.stem).is_terminal())
    assert client.get_job_status(lock.stem) == ends
    wait_for(lambda: not list((tmp_path / "state").rglob("automixer-*.json")))


def submissions(client: Any) -> list[str]:
    return [each.submission_id for each in client.list_jobs()]


def wait_for(look: Any) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + LONG
    while not (found := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.5)
    return found


class Pending:
    """A client of a server with no room for a job."""

    def get_job_status(self, submission: str) -> str:
        return "PENDING"


def test_a_job_that_never_starts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "ask", lambda url: None)
    cluster = RayCluster(job_server="http://head:8265", patience_seconds=0.5)
    submitted = SubmittedJob(
        JobServer("http://head:8265", Pending()), "job-1", cluster, Messages({}, lambda name: None)
    )
    with pytest.raises(AutomixerError, match=r"job-1 has not started on http://head:8265 for 0\.5 s"):
        submitted.get_job_status("job-1")


def test_a_server_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_job, "SILENCE_SECONDS", 0.5)
    server = JobServer(f"http://127.0.0.1:{free_port()}", Pending())
    with pytest.raises(AutomixerError, match=r"has not answered for 0\.5 s .*what is finished is kept"):
        server.status("job-1")


def test_what_was_not_heard_of_is_done_once_when_the_job_has_succeeded() -> None:
    done: list[str] = []
    messages = Messages({"a": 1, "b": 2, "c": 3}, done.append, lambda: [{"done": "b"}])
    messages.hear()
    messages.hear()
    assert done == ["b"]
    messages.rest_is_done()
    assert sorted(done) == ["a", "b", "c"]


def test_a_driver_that_failed_is_quoted_by_its_last_line() -> None:
    message = 'job failed. Message:\nTraceback\nTypeError: no such key\n{"method": "closed"}\n\n'
    assert last_said(RuntimeError(message)) == "TypeError: no such key"


@pytest.fixture(scope="module")
def world(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = create_world(tmp_path_factory.mktemp("run") / "world")
    yield world
    world.close()


def test_settings_alone_submit_corpus_assets(url: str, world: World) -> None:
    world.run("+tokenized_corpus")
    there = {"launchers.corpus": "ray", "launchers.ray.job_server": url, "launchers.ray.job_python": sys.executable}
    for asset in ("snapshot_inventory", "tokenized_corpus"):
        local = everything_in(world.path(asset, "MW-2026-01"))
        shutil.rmtree(world.path(asset, "MW-2026-01"))
        assert world.run(asset, "MW-2026-01", force=True, overrides=there) == [f"{asset}[MW-2026-01]"]
        assert everything_in(world.path(asset, "MW-2026-01")) == local
        pin = world.latest(asset, "MW-2026-01").pin
        assert read_event(world.instance, asset, pin.storage_id).sha256 == pin.data_version
        event = world.instance.get_latest_materialization_event(world_key(asset))
        assert event is not None and event.asset_materialization is not None
        assert str(event.asset_materialization.metadata["Ray job"].value).startswith("automixer-")


def world_key(asset: str) -> Any:
    import dagster as dg

    return dg.AssetKey.from_user_string(asset)
