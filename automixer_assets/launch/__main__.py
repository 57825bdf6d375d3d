"""The driver of a submitted Ray job: python -m automixer_assets.launch FILE (see `submit.py`, which starts it)."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

from dagster_pipes import PipesContext, open_dagster_pipes

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.attached import ORPHANED
from automixer_assets.launch.cluster import require_versions
from automixer_assets.launch.pool import run_on_ray
from automixer_assets.launch.submission import DONE, ERROR, read_submission, submitter_of
from automixer_assets.locks import is_held

WATCH_SECONDS = 2.0


def main(path: Path) -> int:
    """Do the tasks on the cluster that this process is part of; returns the exit code."""
    with open_dagster_pipes() as pipes:
        try:
            _run(path, pipes)
        except AutomixerError as error:
            pipes.report_custom_message({ERROR: str(error)})
            return 1
    return 0


def _run(path: Path, pipes: PipesContext) -> None:
    submission = read_submission(path)
    require_versions(submission.versions, f"{socket.gethostname()}, where the Ray job runs")
    threading.Thread(target=_end_with_the_submitter, args=(path,), name="end with the submitter", daemon=True).start()
    run_on_ray(
        submission.job,
        submission.tasks,
        submission.cluster,
        on_done=lambda name: pipes.report_custom_message({DONE: name}),
        log=pipes.log.info,
    )


def _end_with_the_submitter(path: Path) -> None:
    """A submitter that was killed cannot stop its job; the end of its lock does, and Ray then ends the workers."""
    while is_held(submitter_of(path)):
        time.sleep(WATCH_SECONDS)
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
