"""One method in one process of its own: started, told to run, told to finish.

What belongs here: both ends of the pipe. What does not: what is done with the answers (see `measure.py`).
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.peers.adapters import ADAPTERS
from benchmarks.peers.case import CannotScore, read_case
from benchmarks.peers.memory import peak_mib, reset_peak, resident_mib

RUN, RESULT = "run", "result"
PRELOADED = ["torch", "transformers.models.llama.modeling_llama", "automixer_assets.influence.score"]
"""Imported once for all processes; what a library imports, its own process does."""


class MethodFailed(Exception):
    """The process of `method` said no, broke or ended; the message is one line."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(reason)
        self.method = method


@dataclass(frozen=True)
class Failed:
    reason: str


@dataclass(frozen=True)
class Prepared:
    """Model, documents and query are in memory and the method is set up."""

    version: str
    note: str  # what a reader of the table must know


@dataclass(frozen=True)
class Ran:
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    scores: np.ndarray  # [n, m] of the last run
    memory_mib: float  # highest resident memory of all runs over that before the first


class Worker:
    """The caller's end: `with Worker(name, folder, limit) as worker: worker.run()`."""

    def __init__(self, name: str, folder: Path, limit_seconds: float) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(name, folder, other), daemon=True)
        self._process.start()
        other.close()
        self._name, self._limit = name, limit_seconds

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def prepared(self) -> Prepared:
        return self._answer(Prepared)

    def run(self) -> float:
        """CPU seconds of one scoring of all documents."""
        self._connection.send(RUN)
        return self._answer(Ran).cpu_seconds

    def result(self) -> Result:
        self._connection.send(RESULT)
        return self._answer(Result)

    def _answer(self, kind: type[Any]) -> Any:
        if not self._connection.poll(self._limit):
            raise MethodFailed(self._name, f"no answer within {self._limit:.0f} s")
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise MethodFailed(self._name, _ending(self._process.exitcode)) from None
        if isinstance(answer, Failed):
            raise MethodFailed(self._name, answer.reason)
        assert isinstance(answer, kind), answer
        return answer


def serve(name: str, folder: Path, connection: Connection) -> None:
    """The process's end; what libraries print goes to a log next to the case."""
    own_folder = folder / name
    own_folder.mkdir()
    log = os.open(own_folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _serve(name, folder, own_folder, connection)
    except EOFError:  # the caller has gone
        return
    except CannotScore as error:
        connection.send(Failed(str(error)))
    except Exception as error:  # whatever a library raises is a line of the report
        connection.send(Failed(first_line(error)))


def _serve(name: str, folder: Path, own_folder: Path, connection: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    adapter = importlib.import_module(ADAPTERS[name])
    score = adapter.prepare(read_case(folder, own_folder))
    connection.send(Prepared(version(adapter.DISTRIBUTION), adapter.NOTE))
    gc.freeze()  # kronfluence collects garbage in every pass: walking all that was imported was half of its time
    before = resident_mib()
    reset_peak()
    scores = np.empty(0)
    while True:
        if connection.recv() == RESULT:
            connection.send(Result(np.asarray(scores, dtype=np.float64), peak_mib() - before))
            continue
        begun = time.process_time()
        scores = score()
        connection.send(Ran(time.process_time() - begun))


def first_line(error: BaseException) -> str:
    """Type and first line of the message, for one cell of a table."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"its process was ended by {signal.Signals(-exitcode).name}"
    return f"its process ended with exit code {exitcode}"
