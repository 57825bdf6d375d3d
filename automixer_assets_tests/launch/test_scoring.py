"""Scoring on a real Ray cluster of several nodes in this machine: the local pass's bytes, whatever dies on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import InfluenceQuery, PassOptions, fit_query, model_digest, score_shards
from automixer_assets.launch.cluster import PACKAGES, check_versions, versions
from automixer_assets.launch.scoring import ScoringJob, score_shards_on_ray, scoring_job
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_shards import write_shard

if "AUTOMIXER_REQUIRE_RAY" not in os.environ:
    pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

CLUSTER = RayCluster(workers=2, attempts=2, patience_seconds=240)
OPTIONS = PassOptions(batch_tokens=40)
N_SHARDS = 6


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without CPUs and two nodes of two."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 * 1024**2},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=80 * 1024**2)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def shards(tmp_path: Path) -> list[TokenShard]:
    (tmp_path / "tokens").mkdir()
    return [write_shard(tmp_path / "tokens", i, tiny.documents([4, 9, 1, 14], seed=i)) for i in range(N_SHARDS)]


@pytest.fixture
def job(tmp_path: Path) -> ScoringJob:
    """A tiny model and its query, saved as the lake saves them."""
    model, checkpoint = tiny.llama().float(), tmp_path / "checkpoint"
    model.save_pretrained(checkpoint)
    digests = (model_digest(checkpoint), "t")
    fit_query(model, tiny.tasks(), tiny.reference()).save(
        tmp_path / "query", model_digest=digests[0], tokenizer_digest=digests[1]
    )
    return scoring_job(checkpoint, tmp_path / "query", digests, OPTIONS, gpus=0)


def expected(job: ScoringJob, shards: list[TokenShard], folder: Path) -> dict[str, bytes]:
    """The files of the local pass."""
    from automixer_assets.proxy.model import load_model

    query = InfluenceQuery.load(job.query, model_digest=job.model_digest, tokenizer_digest=job.tokenizer_digest)
    score_shards(load_model(job.checkpoint), shards, query, folder, model_digest=job.model_digest, options=job.options)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_ray_writes_the_local_bytes_and_a_second_pass_writes_nothing(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    score_shards_on_ray(job, shards, tmp_path / "ray", CLUSTER, lambda done, total: seen.append((done, total)))
    assert contents(tmp_path / "ray") == expected(job, shards, tmp_path / "local")
    total = sum(int(shard.documents["n_tokens"].sum()) for shard in shards)
    assert len(seen) == N_SHARDS and seen[-1] == (total, total)
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray").iterdir()}
    score_shards_on_ray(job, shards, tmp_path / "ray", CLUSTER, lambda done, total: None)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "ray").iterdir()} == written


def test_a_worker_killed_in_the_middle_is_replaced(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not killed:
            worker = next(process for process in psutil.Process().children(recursive=True) if _scores(process))
            killed.append(worker.pid)
            worker.kill()

    score_shards_on_ray(job, shards, tmp_path / "ray", CLUSTER, kill_one)
    assert killed
    assert contents(tmp_path / "ray") == expected(job, shards, tmp_path / "local")


def test_a_removed_node_takes_no_shard_with_it(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    removed: list[Any] = []
    extra = nodes.add_node(num_cpus=2, object_store_memory=80 * 1024**2)

    def remove(done: int, total: int) -> None:
        if not removed:
            removed.append(extra)
            nodes.remove_node(extra, allow_graceful=False)

    score_shards_on_ray(job, shards, tmp_path / "ray", _with_workers(CLUSTER, 5), remove)
    assert removed
    assert contents(tmp_path / "ray") == expected(job, shards, tmp_path / "local")


def _scores(process: psutil.Process) -> bool:
    return any(part.startswith("ray::ScoringWorker") for part in process.cmdline())


def _with_workers(cluster: RayCluster, workers: int) -> RayCluster:
    return cluster.model_copy(update={"workers": workers})


def test_a_shard_that_always_fails_is_named_and_the_rest_is_done(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    bad = write_shard(tmp_path / "tokens", N_SHARDS, [[1, 2, 60000]])
    with pytest.raises(AutomixerError, match=r"1 of 7 shards failed 2 times each.*shard-00006: .*shard-00006"):
        score_shards_on_ray(job, [bad, *shards], tmp_path / "ray", CLUSTER, lambda done, total: None)
    assert contents(tmp_path / "ray") == expected(job, shards, tmp_path / "local")


def test_starvation_ends_in_a_message(nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path) -> None:
    greedy = CLUSTER.model_copy(update={"cpus_per_worker": 64, "patience_seconds": 3})
    with pytest.raises(AutomixerError, match=r"no Ray worker was available for 3 s and 6 shards wait.*64 CPUs"):
        score_shards_on_ray(job, shards, tmp_path / "ray", greedy, lambda done, total: None)


def test_a_worker_without_the_checkpoint_or_with_other_packages_is_refused(
    nodes: Any, job: ScoringJob, shards: list[TokenShard], tmp_path: Path
) -> None:
    absent = replace(job, checkpoint=tmp_path / "elsewhere")
    with pytest.raises(
        AutomixerError, match=r"2 Ray workers in a row could not start.*finds no checkpoint .*elsewhere"
    ):
        score_shards_on_ray(absent, shards, tmp_path / "ray", CLUSTER, lambda done, total: None)
    older = replace(job, versions={**job.versions, "torch": "1.0"})
    with pytest.raises(AutomixerError, match=r"could not start.*torch .* \(driver: 1\.0\)"):
        score_shards_on_ray(older, shards, tmp_path / "ray", CLUSTER, lambda done, total: None)


def test_versions_name_every_package_that_differs() -> None:
    assert set(versions()) == set(PACKAGES)
    check_versions(versions(), "node")
    with pytest.raises(AutomixerError, match=r"node has numpy .* \(driver: 0\): install"):
        check_versions({**versions(), "numpy": "0"}, "node")
