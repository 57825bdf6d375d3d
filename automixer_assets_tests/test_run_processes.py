"""One accelerator is never oversubscribed, whoever starts the runs, and a killed run does not keep it."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from automixer_assets.run_processes import (
    PROCESS_TAG,
    hold_slot,
    limit_pools,
    process_name,
    report_dead_runs,
    waiting_for,
)

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


def _run_slowly(reference: dg.InstanceRef, spans: Path, name: str) -> None:
    """Materialise an asset that takes half a second, and write down when it began and ended."""

    @dg.asset(pool=POOL, name="scores")
    def slow(context) -> None:  # Dagster cannot read an annotation that is a string
        hold_slot(context.instance, POOL, context.run_id, context.get_step_execution_context().step.key)
        began = time.monotonic()
        time.sleep(0.5)
        (spans / name).write_text(f"{began} {time.monotonic()}")

    with dg.DagsterInstance.from_ref(reference) as instance:
        assert dg.materialize([slow], instance=instance).success


def test_two_runs_never_hold_it_at_once(instance: dg.DagsterInstance, tmp_path: Path):
    limit_pools(instance, [POOL])
    spawn = multiprocessing.get_context(
        "spawn"
    )  # as users do it; Dagster's logging does not survive two runs in threads
    processes = [spawn.Process(target=_run_slowly, args=(instance.get_ref(), tmp_path, name)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    (_, first_end), (second_start, _) = sorted(
        [float(value) for value in (tmp_path / name).read_text().split()] for name in ("a", "b")
    )
    assert first_end <= second_start
