"""Drivers in processes of their own, for what ends a process."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import psutil

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.pool import run_on_ray
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.launch.jobs import Told

REFUSED = 3


def lose_head(folder: Path) -> None:
    """Start a cluster in this machine, and kill its head after the first task."""

    def kill_head(name: str) -> None:
        for process in psutil.Process().children(recursive=True):
            if process.name() == "gcs_server":
                process.kill()

    tasks = {f"shard-{i}": (f"shard-{i}", "wait") for i in range(1000)}
    run_on_ray(Told(folder), tasks, RayCluster(workers=1), on_done=kill_head, log=print)


def die_scoring(folder: Path) -> None:
    """Score what stands pickled in `folder`, and die after the first shard."""
    from automixer_assets.launch.scoring import score_shards_on_ray

    def die(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    job, shards, cluster = pickle.loads((folder / "scoring.pickle").read_bytes())
    score_shards_on_ray(job, shards, cluster, on_progress=die, log=print)


def submit_and_wait(folder: Path) -> None:
    """Submit what stands pickled in `folder` to a cluster that has no room for its workers."""
    from automixer_assets_tests.launch.dagster_run import SubmittedRun

    job, shards, url = pickle.loads((folder / "run.pickle").read_bytes())
    run = SubmittedRun(job, shards, url, cpus_per_worker=64, patience_seconds=3600)
    sys.exit(0 if run.result.success else 1)


if __name__ == "__main__":
    try:
        commands = {"lose_head": lose_head, "die_scoring": die_scoring, "submit_and_wait": submit_and_wait}
        commands[sys.argv[1]](Path(sys.argv[2]))
    except AutomixerError as error:
        print(error)
        sys.exit(REFUSED)
