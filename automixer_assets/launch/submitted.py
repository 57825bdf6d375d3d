"""The driver of a stage that was submitted as a Ray job (`ray_job.py`): it runs on the cluster and tells Dagster.

    python -m automixer_assets.launch.submitted HANDOVER

What it says goes through Dagster Pipes: lines of the pass as log messages, the rest as custom messages of one key each.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.cluster import require_versions
from automixer_assets.launch.handover import Handover
from automixer_assets.launch.job import ORPHANED
from automixer_assets.launch.pool import run_pool
from automixer_assets.locks import is_held

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

DONE, USED, ERROR = "done", "used", "error"
"""Keys of custom messages: a task's name, the fields of `Used`, the sentence of an AutomixerError."""
ERROR_LENGTH = 6000
"""A message travels as one line, which must be written at once: a longer one would be read in pieces."""
LOOK_SECONDS = 2.0
"""How often a job looks for its submitter."""
LOOKS = 2
"""So often in a row must the submitter be missed."""


class Teller:
    """Dagster's end of the line; the log on which messages travel is read while it grows, hence the flush."""

    def __init__(self, pipes: PipesContext) -> None:
        self._pipes = pipes

    def log(self, line: str) -> None:
        self._pipes.log.info(line)
        sys.stdout.flush()

    def tell(self, kind: str, value: Any) -> None:
        self._pipes.report_custom_message({kind: value})
        sys.stdout.flush()


def run_submitted(path: Path, teller: Teller) -> None:
    """Do the tasks of a handover on the cluster that this process is on; raises as `run_pool`."""
    end_with_the_submitter(path)
    handover = Handover.load(path)
    require_versions(handover.versions, os.uname().nodename)
    cluster = handover.cluster.model_copy(update={"job_server": None, "address": "auto"})
    used = run_pool(
        handover.job,
        handover.tasks,
        cluster,
        handover.versions,
        on_done=lambda name: teller.tell(DONE, name),
        log=teller.log,
    )
    teller.tell(USED, dataclasses.asdict(used))


def end_with_the_submitter(path: Path) -> None:
    """A submitter that was killed cannot stop its job; the end of its lock does. The handover is then removed."""

    def watch() -> None:
        missed = 0
        while missed < LOOKS:
            time.sleep(LOOK_SECONDS)
            missed = 0 if is_held(lock_of(path)) else missed + 1
        path.unlink(missing_ok=True)
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="end with the submitter", daemon=True).start()


def lock_of(path: Path) -> Path:
    """What the submitter of a handover holds for as long as it waits."""
    return path.with_suffix(".lock")


def main(path: str) -> int:
    """Exit code 1 after an AutomixerError, which has been told; other exceptions travel on."""
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        sys.stdout.flush()
        teller = Teller(pipes)
        try:
            run_submitted(Path(path), teller)
        except AutomixerError as error:
            teller.tell(ERROR, str(error)[:ERROR_LENGTH])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
