"""Every method against ours: paired CPU times, memory, agreement."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.adapters import OURS
from benchmarks.peers.case import Configuration, write_case
from benchmarks.peers.worker import MethodFailed, Worker

Run = Callable[[], float]
"""Scores all documents and returns the CPU seconds that took."""


@dataclass(frozen=True)
class Agreement:
    """With our scores, on the same quantity."""

    relative_error: float  # |theirs - ours| / |ours|, over all documents and directions
    spearman: float  # the lowest of all directions; NaN where documents are too few or all alike


@dataclass(frozen=True)
class Row:
    """One method in one configuration: measured, or the reason why not."""

    method: str
    version: str = ""
    pairs: tuple[tuple[float, float], ...] = ()  # CPU seconds, (theirs, ours)
    memory_mib: float = float("nan")
    ours_mib: float = float("nan")  # in the same pairs
    agreement: Agreement | None = None
    remark: str = ""  # why it was not measured, or what else to know

    @property
    def ratios(self) -> tuple[float, ...]:
        """Their CPU time over ours, pair by pair."""
        return tuple(theirs / ours for theirs, ours in self.pairs)


@dataclass(frozen=True)
class Options:
    pairs: int
    tokens: int
    batch_tokens: int
    limit_seconds: float


def measure(configuration: Configuration, methods: list[str], options: Options) -> list[Row]:
    """One row per method, in order; only a failure of ours is raised."""
    with tempfile.TemporaryDirectory(prefix="automixer_peers_") as name:
        folder = Path(name)
        write_case(configuration, options.tokens, options.batch_tokens, folder)
        with Worker(OURS, folder, options.limit_seconds) as ours:
            ours.prepared()
            return [_row(method, ours, folder, options) for method in methods]


def _row(method: str, ours: Worker, folder: Path, options: Options) -> Row:
    version = ""
    try:
        with Worker(method, folder, options.limit_seconds) as theirs:
            prepared = theirs.prepared()
            version = prepared.version
            pairs = alternate(theirs.run, ours.run, options.pairs)
            result, own = theirs.result(), ours.result()
            agreement = agreement_of(result.scores, own.scores)
            return Row(method, version, pairs, result.memory_mib, own.memory_mib, agreement, prepared.note)
    except MethodFailed as failure:
        if failure.method != method:
            raise
        return Row(method, version, remark=str(failure))


def alternate(theirs: Run, ours: Run, pairs: int) -> tuple[tuple[float, float], ...]:
    """CPU seconds in pairs that take turns at going first; a first run of each is thrown away."""
    theirs()
    ours()
    seconds = []
    for pair in range(pairs):
        if pair % 2 == 0:
            seconds.append((theirs(), ours()))
        else:
            second = ours()
            seconds.append((theirs(), second))
    return tuple(seconds)


def agreement_of(theirs: np.ndarray, ours: np.ndarray) -> Agreement:
    """Of two score matrices [n, m]."""
    correlations = [_spearman(a, b) for a, b in zip(theirs.T, ours.T, strict=True)]
    return Agreement(float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours)), float(np.min(correlations)))


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of ranks [n]; gradient products have no ties."""
    if len(a) < 3:
        return float("nan")
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])
