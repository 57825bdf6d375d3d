"""Runs of this command line belong to its process: when that was killed, nobody else would say that they ended."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

import dagster as dg
import psutil

PROCESS_TAG = "automixer/process"
SETTLING_SECONDS = 0.5


def process_name() -> str:
    """Host, process id and its start, which together never come again."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.0f}"


def report_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs as failed whose process on this machine is gone, so that the UI does not show them as running."""
    unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        name = run.tags.get(PROCESS_TAG)
        if name is not None and not _alive(name):
            instance.report_run_failed(run, "the process of this run was killed; finished parts are kept")
            # Nobody else would: without a daemon, the next run would wait for the accelerator for ever.
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def limit_pools(instance: dg.DagsterInstance, pools: Iterable[str]) -> None:
    """Give pools their limit before anything runs: of two runs that both use one first, neither would wait."""
    storage = instance.event_log_storage
    for pool in sorted(set(pools) - set(storage.get_concurrency_keys())):
        storage.initialize_concurrency_limit_to_default(pool)


def hold_slot(instance: dg.DagsterInstance, pool: str, run_id: str, step: str) -> None:
    """Return once the slot that Dagster gave to this step is surely its own.

    On SQLite a claim is a read and a write: of two runs that ask in the same instant both are told yes, and the slot
    names the later one. So where another run is under way, look again after both must have written.
    """
    storage = instance.event_log_storage
    under_way = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    if pool not in storage.get_concurrency_keys() or all(run.run_id == run_id for run in under_way):
        return
    time.sleep(SETTLING_SECONDS)
    while run_id not in storage.get_concurrency_info(pool).active_run_ids:
        storage.claim_concurrency_slot(pool, run_id, step)
        time.sleep(SETTLING_SECONDS)


def waiting_for(instance: dg.DagsterInstance, pool: str | None) -> str | None:
    """Why a step that needs a slot of `pool` would wait now, or None."""
    if pool is None:
        return None
    storage = instance.event_log_storage
    if pool not in storage.get_concurrency_keys():
        return None
    slots = storage.get_concurrency_info(pool)
    if slots.active_slot_count < slots.slot_count:
        return None
    holders = ", ".join(sorted(run_id[:8] for run_id in slots.active_run_ids))
    return f"waiting for the {pool}, held by run {holders}: let it end, or cancel it in the UI"


def _alive(name: str) -> bool:
    host, process_id, created = name.rsplit(":", maxsplit=2)
    if host != socket.gethostname():
        return True  # another machine's: not ours to judge
    try:
        return abs(psutil.Process(int(process_id)).create_time() - float(created)) < 2
    except psutil.NoSuchProcess:
        return False
