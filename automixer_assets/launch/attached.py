"""A training process as the program that started it sees it: lines of JSON, and an end when that program ends.

`python -m automixer_assets.proxy` alone shows its progress to a person. With `--attached` it was started by
`torchrun.py`: standard output carries progress, log lines and errors; standard input is a pipe that nobody writes to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.job import ORPHANED
from automixer_assets.progress import progress
from automixer_assets.proxy.simulation import reporter
from automixer_assets.proxy.train import ProgressCallback
from automixer_assets.proxy.world import World, joined_world

PROGRESS, LOG, ERROR = "progress", "log", "error"
"""The kinds of lines: a step's four numbers (`ProgressCallback`), a sentence, the sentence of an AutomixerError."""
Sharded = Annotated[
    bool, typer.Option("--sharded", help="spread the model over the processes, where it does not fit into one")
]
Attached = Annotated[
    bool, typer.Option("--attached", hidden=True, help="started by a program: JSON on stdout, ends with its stdin")
]
"""Options of every training command."""


@dataclass(frozen=True)
class TrainingProcess:
    """This process among those that train together, and how it reports; only the one that writes has a callback."""

    world: World
    on_progress: ProgressCallback | None
    log: Callable[[str], None]


@contextlib.contextmanager
def training_process(label: str, steps: int, *, sharded: bool, attached: bool) -> Iterator[TrainingProcess]:
    """Join the processes of this run; progress of `steps` steps goes to the terminal, or to the starter."""
    if attached:
        end_with_the_starter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_telling_errors(attached))
        world = stack.enter_context(joined_world(sharded=sharded))
        if not world.writes:
            yield TrainingProcess(world, None, _say_nothing)
        elif attached:
            yield TrainingProcess(world, _tell_progress, functools.partial(_tell, LOG))
        else:
            bar = stack.enter_context(progress(label, steps, "steps", say))
            yield TrainingProcess(world, reporter(bar), say)


def run_command(command: Callable[..., None]) -> None:
    """Run a training command with this process's arguments; an AutomixerError is a sentence and exit code 1."""
    try:
        typer.run(command)
    except AutomixerError as error:
        say(f"error: {error}")
        sys.exit(1)


def say(line: str) -> None:
    """To the person at the terminal."""
    print(line, file=sys.stderr, flush=True)


def _say_nothing(line: str) -> None:
    """Every process but the first."""


def _tell(kind: str, value: Any) -> None:
    # One write for the whole line: several processes share the pipe.
    sys.stdout.write(json.dumps({kind: value}) + "\n")
    sys.stdout.flush()


def _tell_progress(step: int, loss: float, learning_rate: float, tokens_per_second: float) -> None:
    _tell(PROGRESS, [step, loss, learning_rate, tokens_per_second])


@contextlib.contextmanager
def _telling_errors(attached: bool) -> Iterator[None]:
    try:
        yield
    except AutomixerError as error:
        if attached:
            _tell(ERROR, str(error))
        raise


def end_with_the_starter() -> None:
    """A starter that was killed cannot end its processes; the end of the pipe from it does."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="end with the starter", daemon=True).start()
