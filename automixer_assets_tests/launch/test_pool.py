"""The pool on a real cluster: every task once, failures named, and a sentence instead of a wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.launch import pool
from automixer_assets.launch.cluster import versions
from automixer_assets.launch.pool import run_on_ray
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.launch.jobs import NeverOpens, Told
from automixer_assets_tests.launch.nodes import require_ray

require_ray()
CLUSTER = RayCluster(workers=2, attempts=2, patience_seconds=300)


def run(job: Any, tasks: dict[str, Any], **changes: Any) -> tuple[list[str], list[str]]:
    """Names in the order in which they were done, and the lines of the log."""
    done: list[str] = []
    said: list[str] = []
    run_on_ray(job, tasks, CLUSTER.model_copy(update=changes), on_done=done.append, log=said.append)
    return done, said


def told(*what: str) -> dict[str, tuple[str, str]]:
    return {f"shard-{i}": (f"shard-{i}", each) for i, each in enumerate(what)}


def test_every_task_is_done_once(nodes: Any, tmp_path: Path) -> None:
    job, tasks = Told(tmp_path), told(*["obey"] * 12)
    done, said = run(job, tasks)
    assert sorted(done) == sorted(tasks) == job.attempts()
    assert any(line.startswith("a Ray worker on ") and line.endswith("shards wait") for line in said)


def test_failing_tasks_are_tried_again_and_named_while_the_others_are_done(nodes: Any, tmp_path: Path) -> None:
    job, tasks = Told(tmp_path), told("refuse", "obey", "fail", "obey", "allocate", "obey", "die", "obey")
    with pytest.raises(AutomixerError, match=r"4 of 8 shards failed 2 times each, the others are done") as failure:
        run(job, tasks)
    assert job.attempts() == sorted([*tasks, *(name for name, (_, what) in tasks.items() if what != "obey")])
    listed = str(failure.value).split(" and stay: ")[1].split("; shard")
    assert listed[0] == "shard-0: shard-0 has no text: export it again"
    assert listed[1] == "-2: ZeroDivisionError: no documents"
    assert listed[2].startswith("-4: the worker ran out of memory (32 GiB): lower corpus.documents_per_shard")
    assert listed[3].startswith("-6: its worker was killed, as the kernel does when memory runs out")


def test_attempts_are_in_the_log(nodes: Any, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(AutomixerError):
        run_on_ray(Told(tmp_path), told("refuse"), CLUSTER, on_done=lambda name: None, log=said.append)
    assert said[1:] == [
        "shard-0 failed, attempt 1 of 2: shard-0 has no text: export it again",
        "shard-0 failed, attempt 2 of 2: shard-0 has no text: export it again",
    ]


def test_starvation_ends_in_a_sentence(nodes: Any, tmp_path: Path) -> None:
    with pytest.raises(
        AutomixerError,
        match=r"no Ray worker was ready for 3 s and 1 shards wait: each worker needs 64 CPUs and 0 GPUs, "
        r"and 2 of 2 CPUs and 0 of 0 GPUs are free on 3 nodes",
    ):
        run(Told(tmp_path), told("obey"), cpus_per_worker=64, patience_seconds=3)


def test_workers_that_cannot_start_end_in_their_reason(nodes: Any) -> None:
    with pytest.raises(AutomixerError, match=r"2 Ray workers in a row could not start.*finds no model: mount the lake"):
        run(NeverOpens(), told("obey"))


def test_a_worker_with_other_packages_is_refused(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "versions", lambda: {**versions(), "torch": "1.0"})
    with pytest.raises(AutomixerError, match=r"has torch \S+ where the driver has 1\.0: install the driver's versions"):
        run(Told(tmp_path), told("obey"))
