"""Train in several processes of this machine under torchrun, and know what becomes of them.

The processes run the same command that a person may run (`python -m automixer_assets.proxy`, docs/training.md). None
outlives this one: a run that is cancelled stops them, one that is killed leaves them a pipe that ends (`attached.py`).
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.attached import ERROR, LOG, PROGRESS
from automixer_assets.out_of_memory import ALLOCATION
from automixer_assets.proxy.train import ProgressCallback
from automixer_assets.settings import Torchrun

GRACE_SECONDS = 10.0
"""Between asking processes to end and ending them."""
LAST_LINES = 8
"""Of a failed process's standard error, in the message."""
ROOT_CAUSE = re.compile(r"Root Cause.*?\brank\s*:\s*(\d+).*?\bexitcode\s*:\s*(-?\d+)", re.DOTALL)
"""How torchrun reports the process that failed first."""
KILLED = -9
MEMORY_REMEDY = (
    "lower training.micro_batch_size, set training.activation_checkpointing or launchers.torchrun.sharded to true, or "
    "give it more memory; then run again, it goes on where it stopped"
)


class TrainingProcessError(RuntimeError):
    """A training process failed for a reason that may pass, such as a lost device."""


@dataclass(frozen=True)
class Listener:
    """Who hears what the processes say."""

    on_progress: ProgressCallback
    log: Callable[[str], None]

    def hear(self, line: str) -> str | None:
        """Pass on a line of standard output; returns the sentence of an error. What a library prints is logged."""
        kind, value = _parsed(line)
        if kind == PROGRESS:
            self.on_progress(*value)
        elif kind == ERROR:
            return str(value)
        elif value:
            self.log(str(value))
        return None


def _parsed(line: str) -> tuple[str, Any]:
    try:
        ((kind, value),) = json.loads(line).items()
    except (ValueError, AttributeError):
        return LOG, line.strip()
    return (kind, value) if kind in (PROGRESS, LOG, ERROR) else (LOG, line.strip())


def train_under_torchrun(
    module: str, arguments: Sequence[str], launcher: Torchrun, logs: Path, listener: Listener, name: str
) -> None:
    """Run `python -m MODULE ARGUMENTS --attached` in the launcher's processes until all have ended.

    Args:
        logs: receives each process's standard error; kept by the caller for as long as it is useful.
        name: of what is trained, for error messages.

    Raises:
        AutomixerError: in the words of the process that raised it; or memory ran out.
        TrainingProcessError: another failure, with the last lines of the process's standard error.
    """
    logs.mkdir(parents=True, exist_ok=True)
    own = ["--standalone", "--nproc-per-node", str(launcher.processes), "--redirects", "2", "--log-dir", str(logs)]
    sharded = ["--sharded"] if launcher.sharded else []
    command = [sys.executable, "-m", "torch.distributed.run", *own, "-m", module, *arguments, *sharded, "--attached"]
    error = None
    with _running(command) as (process, last_lines):
        assert process.stdout is not None
        for line in process.stdout:
            error = listener.hear(line) or error
        code = process.wait()
    if error is not None:
        raise AutomixerError(error)
    if code:
        raise _failure(name, launcher.processes, code, "".join(last_lines), logs)


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], deque[str]]]:
    """torchrun and the end of its standard error; leaving ends it, and whatever it started, however one leaves."""
    last_lines: deque[str] = deque(maxlen=200)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
    )
    assert process.stdin is not None and process.stderr is not None
    reading = threading.Thread(target=last_lines.extend, args=(process.stderr,), daemon=True)
    reading.start()
    try:
        yield process, last_lines
    finally:
        _stop(process)
        reading.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _stop(process: subprocess.Popen[str]) -> None:
    """End torchrun and its processes, each of which has a session of its own."""
    import psutil

    assert process.stdin is not None
    with contextlib.suppress(psutil.NoSuchProcess):
        running = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.stdin.close()  # the training processes see it, whether or not torchrun still can tell them
        for child in psutil.wait_procs(running, GRACE_SECONDS)[1]:
            child.kill()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(name: str, processes: int, code: int, summary: str, logs: Path) -> Exception:
    """What to raise for torchrun's exit code and the end of its standard error."""
    found = ROOT_CAUSE.search(summary)
    rank, code = (found[1], int(found[2])) if found else (None, code)
    log = _log_of(rank, logs)
    said = log.read_text(errors="replace") if log is not None else summary
    last = [line.rstrip() for line in said.splitlines() if line.strip()][-LAST_LINES:]
    which = f"training process {rank} of {processes}" if rank is not None else "torchrun"
    if code == KILLED or ALLOCATION.search("\n".join(last)):
        return AutomixerError(
            f"{name}: {which} ran out of memory (exit code {code}{': killed' if code == KILLED else ''}): "
            f"{MEMORY_REMEDY}"
        )
    where = f", all of it in {log}" if log is not None else ""
    return TrainingProcessError(
        f"{name}: {which} ended with exit code {code}; it last said{where}:\n" + "\n".join(last)
    )


def _log_of(rank: str | None, logs: Path) -> Path | None:
    """The standard error of a process of the last start."""
    files = sorted(logs.glob(f"*/attempt_*/{rank}/stderr.log"), key=lambda path: path.stat().st_mtime)
    return files[-1] if files else None
