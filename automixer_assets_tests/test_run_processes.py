"""One accelerator is never oversubscribed, whoever starts the runs, and a killed run does not keep it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from automixer_assets.run_processes import PROCESS_TAG, process_name, report_dead_runs, waiting_for

POOL = "accelerator"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(overrides={"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}) as made:
        yield made


@dg.asset(pool=POOL)
def scores() -> None: ...


def _run_with_slot(instance: dg.DagsterInstance, process: str) -> dg.DagsterRun:
    job = dg.Definitions(assets=[scores]).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(job, tags={PROCESS_TAG: process}, status=dg.DagsterRunStatus.STARTED)
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default(POOL)
    assert storage.claim_concurrency_slot(POOL, run.run_id, "scores").is_claimed
    return run


def test_who_holds_the_accelerator_is_said(instance: dg.DagsterInstance):
    assert waiting_for(instance, None) is None
    assert waiting_for(instance, POOL) is None, "nobody has asked for it yet"
    run = _run_with_slot(instance, process_name())
    assert waiting_for(instance, POOL) == (
        f"waiting for the accelerator, held by run {run.run_id[:8]}: let it end, or cancel it in the UI"
    )
    report_dead_runs(instance)
    assert waiting_for(instance, POOL) is not None, "this very process is alive"


def test_a_killed_run_fails_and_gives_its_slot_back(instance: dg.DagsterInstance):
    run = _run_with_slot(instance, f"{socket.gethostname()}:{2**22 + 1}:0")
    report_dead_runs(instance)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == dg.DagsterRunStatus.FAILURE
    assert waiting_for(instance, POOL) is None
    assert dg.materialize([scores], instance=instance).success


def test_two_runs_never_hold_it_at_once(instance: dg.DagsterInstance):
    spans: list[tuple[float, float]] = []

    @dg.asset(pool=POOL, name="scores", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def slow() -> None:
        started = time.monotonic()
        time.sleep(0.5)
        spans.append((started, time.monotonic()))

    def run(key: str) -> None:
        dg.materialize([slow], instance=instance, partition_key=key)

    threads = [threading.Thread(target=run, args=(key,)) for key in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (_, first_end), (second_start, _) = sorted(spans)
    assert first_end <= second_start
