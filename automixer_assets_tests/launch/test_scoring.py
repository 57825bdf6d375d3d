"""Scoring on a real Ray cluster of several nodes in this machine: the local pass's bytes, whatever dies on the way."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.launch.scoring import ScoringJob, score_shards_on_ray
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.influence.test_shards import contents, write_shard
from automixer_assets_tests.launch.nodes import SMALL, require_ray
from automixer_assets_tests.launch.passes import expected, tiny_job, tiny_shards

require_ray()
CLUSTER = RayCluster(workers=2, attempts=2, patience_seconds=300)
N_SHARDS = 6


@pytest.fixture
def shards(tmp_path: Path) -> list[TokenShard]:
    return tiny_shards(tmp_path, N_SHARDS)


@pytest.fixture
def job(tmp_path: Path) -> ScoringJob:
    return tiny_job(tmp_path)


def score(
    job: ScoringJob,
    shards: list[TokenShard],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    cluster: RayCluster = CLUSTER,
) -> None:
    score_shards_on_ray(job, shards, cluster, on_progress=on_progress, log=print)


def written(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_ray_writes_the_local_bytes_and_a_second_pass_writes_nothing(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    score(job, shards, lambda done, total: seen.append((done, total)))
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")
    total = sum(int(shard.documents["n_tokens"].sum()) for shard in shards)
    assert len(seen) == N_SHARDS and seen[-1] == (total, total)
    first = written(job.folder)
    score(job, shards)
    assert written(job.folder) == first


def test_a_worker_that_is_killed_is_replaced(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            worker = next(process for process in psutil.process_iter() if _is_worker(process))
            killed.append(worker.pid)
            worker.kill()

    score(job, shards, kill_one)
    assert killed
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")


def _is_worker(process: psutil.Process) -> bool:
    """Only this cluster's: a node's processes are children of this one."""
    return process.name().startswith("ray::Worker") and psutil.Process() in process.parents()


def test_a_node_that_is_removed_takes_no_shard_with_it(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    extra, removed = nodes.add_node(num_cpus=1, **SMALL), []

    def remove(done: int, total: int) -> None:
        if not removed:
            removed.append(extra)
            nodes.remove_node(extra, allow_graceful=False)

    score(job, shards, remove, CLUSTER.model_copy(update={"workers": 3}))
    assert removed
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")


def test_a_driver_that_is_killed_leaves_a_pass_that_goes_on(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    address = CLUSTER.model_copy(update={"address": nodes.address})
    (tmp_path / "scoring.pickle").write_bytes(pickle.dumps((job, shards, address)))
    command = [sys.executable, "-m", "automixer_assets_tests.launch.drivers", "die_scoring", str(tmp_path)]
    assert subprocess.run(command, timeout=600).returncode == -9
    before = written(job.folder)
    assert before
    score(job, shards)
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")
    assert {name: when for name, when in written(job.folder).items() if name in before} == before


def test_a_shard_that_always_fails_is_named_and_the_rest_is_done(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    bad = write_shard(tmp_path / "tokens", N_SHARDS, [[1, 2, 60000]])
    with pytest.raises(AutomixerError, match=r"1 of 7 shards failed 2 times each.*shard-00006: .*shard-00006"):
        score(job, [bad, *shards])
    assert contents(job.folder) == expected(job, shards, tmp_path / "local")


def test_a_worker_without_the_checkpoint_is_refused(nodes: Any, job: ScoringJob, shards: list[TokenShard]) -> None:
    with pytest.raises(AutomixerError, match=r"could not start.*finds no checkpoint .*elsewhere with the driver's"):
        score(replace(job, checkpoint=job.folder / "elsewhere"), shards)
