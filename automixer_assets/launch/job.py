"""Work on tasks that do not depend on each other, and where it runs: in this process, or wherever the settings say."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.locks import claimed
from automixer_assets.settings.launchers import Launcher, Launchers, RayCluster

POLL_SECONDS = 0.5
"""Pause while another process is at a task."""

ORPHANED = 3
"""Exit code of a process whose starter is gone."""

Log = Callable[[str], None]
OnDone = Callable[[str], None]


class Job(Protocol):
    """What all tasks share. It travels to every worker, so it holds names of files and no data.

    Where several processes may do the same task, a task sees to it that its file appears whole and once.
    """

    def open(self) -> Callable[[Any], None]:
        """Load it; returns what does one task, here or on any node."""
        ...


RunTasks = Callable[[Job, Mapping[str, Any], OnDone], None]
"""Does the tasks of a job, by name, and calls back with the name of each that is done."""


def run_here(job: Job, tasks: Mapping[str, Any], on_done: OnDone) -> None:
    """One after another, in this process."""
    run = job.open()
    for name, task in tasks.items():
        run(task)
        on_done(name)


def shard_tasks(shards: Sequence[TokenShard]) -> dict[str, TokenShard]:
    """A task for every shard: copies, for a shard keeps the table that it has read."""
    return {shard.name: replace(shard) for shard in shards}


def corpus_launcher(launchers: Launchers, log: Log) -> RunTasks:
    """What does the tasks of inventories and of tokenising."""
    return _without_gpus(launchers.corpus, launchers.ray, log)


def mixture_launcher(launchers: Launchers, log: Log, *, unit: str = "shards", stays: bool = True) -> RunTasks:
    """What does the tasks of joint influence and of groups; `unit`, `stays` as of `run_on_ray`."""
    return _without_gpus(launchers.mixture, launchers.ray, log, unit=unit, stays=stays)


def _without_gpus(
    launcher: Launcher, cluster: RayCluster, log: Log, *, unit: str = "shards", stays: bool = True
) -> RunTasks:
    if launcher == "local":
        return run_here
    from automixer_assets.launch.pool import run_on_ray

    workers = cluster.without_gpus()
    return lambda job, tasks, on_done: run_on_ray(job, tasks, workers, on_done=on_done, log=log, unit=unit, stays=stays)


def make_once(path: Path, make: Callable[[], None]) -> None:
    """Return when `path` is there: made here by `make`, whole or not at all, or by another process that is at it."""
    while not path.exists():
        with claimed(path) as mine:
            if mine and not path.exists():
                make()
        if not mine:
            time.sleep(POLL_SECONDS)


def require_folder(folder: Path) -> None:
    """Refuse a node that does not see what the driver does."""
    if not folder.is_dir():
        raise AutomixerError(
            f"{socket.gethostname()} finds no {folder}: put the lake and the snapshots on a file system that all "
            "nodes mount under one path"
        )
