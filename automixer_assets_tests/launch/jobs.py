"""Jobs whose tasks end as they are told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.job import Job


@dataclass(frozen=True)
class Told:
    """A task is (name, what to do); every attempt adds a line, its name, to `done`."""

    folder: Path

    def open(self) -> Callable[[tuple[str, str]], None]:
        return self.attempt

    def attempt(self, task: tuple[str, str]) -> None:
        name, what = task
        with (self.folder / "attempts").open("a") as file:
            file.write(f"{name}\n")
        if what == "refuse":
            raise AutomixerError(f"{name} has no text: export it again")
        if what == "fail":
            raise ZeroDivisionError("no documents")
        if what == "allocate":
            raise MemoryError("32 GiB")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":
            time.sleep(2)

    def attempts(self) -> list[str]:
        return sorted((self.folder / "attempts").read_text().split())


@dataclass(frozen=True)
class NeverOpens:
    """A job whose files are not there."""

    def open(self) -> Callable[[object], None]:
        raise AutomixerError("the worker finds no model: mount the lake")


@dataclass(frozen=True)
class DyingOnce:
    """Another job, of which the first process that has done a task dies before it can say so."""

    job: Job
    folder: Path

    def open(self) -> Callable[[Any], None]:
        run = self.job.open()

        def attempt(task: Any) -> None:
            run(task)
            mark = self.folder / f"{type(self.job).__name__} died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return attempt
