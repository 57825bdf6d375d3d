"""Runs of this command line belong to its process: when that was killed, nobody else would say that they ended."""

from __future__ import annotations

import socket

import dagster as dg
import psutil

PROCESS_TAG = "automixer/process"


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


def _alive(name: str) -> bool:
    host, process_id, created = name.rsplit(":", maxsplit=2)
    if host != socket.gethostname():
        return True  # another machine's: not ours to judge
    try:
        return abs(psutil.Process(int(process_id)).create_time() - float(created)) < 2
    except psutil.NoSuchProcess:
        return False
