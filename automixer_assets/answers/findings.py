"""What a verification found: per check the numbers compared, and each one that is not what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from automixer_assets.errors import AutomixerError

SHOWN = 20
"""Differences that a check describes; the others are counted."""
RELATIVE = 1e-9
"""Sums of doubles taken in another order differ by far less, a changed score by far more."""
UNREADABLE = (
    AutomixerError,
    OSError,
    ValueError,
    KeyError,
    ArithmeticError,
    pa.ArrowException,
    pl.exceptions.PolarsError,
    duckdb.Error,
)
"""How a damaged or missing input shows itself."""


@dataclass(frozen=True)
class Difference:
    """One number (or text) that is not what it should be. `where`: file, group and field."""

    where: str
    stored: Any
    recomputed: Any

    def as_json(self) -> dict[str, Any]:
        return {"where": self.where, "stored": _plain(self.stored), "recomputed": _plain(self.recomputed)}


@dataclass
class Check:
    """One thing that was verified. `note` says what was left out, and why."""

    name: str
    question: str
    n_compared: int = 0
    n_differences: int = 0
    differences: list[Difference] = field(default_factory=list)
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.n_differences == 0

    def differ(self, where: str, stored: Any, recomputed: Any) -> None:
        """Record a difference."""
        self.n_differences += 1
        if len(self.differences) < SHOWN:
            self.differences.append(Difference(where, stored, recomputed))

    def equal(self, where: str, stored: Any, recomputed: Any) -> bool:
        """Compare exactly."""
        self.n_compared += 1
        if stored == recomputed:
            return True
        self.differ(where, stored, recomputed)
        return False

    def close(self, where: str, stored: float | None, recomputed: float | None, scale: float = 0.0) -> bool:
        """Compare within `RELATIVE` of the larger of both and `scale`, the size of the terms that were added up."""
        self.n_compared += 1
        if stored is None or recomputed is None:
            agrees = stored is None and recomputed is None
        else:
            agrees = abs(stored - recomputed) <= RELATIVE * max(abs(stored), abs(recomputed), scale)
        if not agrees:
            self.differ(where, stored, recomputed)
        return agrees

    def rows(self, where: str, stored: np.ndarray, recomputed: np.ndarray, scale: np.ndarray | float = 0.0) -> bool:
        """Compare a column row by row, [n] each, as `close` does; a NaN is never close."""
        self.n_compared += len(recomputed)
        if len(stored) != len(recomputed):
            self.differ(f"{where}: rows", len(stored), len(recomputed))
            return False
        limit = RELATIVE * np.maximum(np.maximum(np.abs(stored), np.abs(recomputed)), scale)
        wrong = np.flatnonzero(~(np.abs(stored - recomputed) <= limit))
        self._wrong_rows(where, wrong, stored, recomputed)
        return not len(wrong)

    def equal_rows(self, where: str, stored: np.ndarray, recomputed: np.ndarray) -> bool:
        """Compare a column row by row and exactly, [n] each."""
        self.n_compared += len(recomputed)
        if len(stored) != len(recomputed):
            self.differ(f"{where}: rows", len(stored), len(recomputed))
            return False
        wrong = np.flatnonzero(stored != recomputed)
        self._wrong_rows(where, wrong, stored, recomputed)
        return not len(wrong)

    def _wrong_rows(self, where: str, wrong: np.ndarray, stored: np.ndarray, recomputed: np.ndarray) -> None:
        for row in wrong[:SHOWN].tolist():
            self.differ(f"{where}, row {row}", stored[row], recomputed[row])
        self.n_differences += max(0, len(wrong) - SHOWN)

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """An input that cannot be read fails the check, and the others go on."""
        try:
            yield
        except UNREADABLE as error:
            self.differ(what, _first_line(error), "readable")

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.name,
            "question": self.question,
            "passed": self.passed,
            "n_compared": self.n_compared,
            "n_differences": self.n_differences,
            "differences": [each.as_json() for each in self.differences],
            "note": self.note,
        }


@dataclass(frozen=True)
class Verification:
    """All checks of one manifest; `not_recomputed` says what was taken as it is."""

    reference: str
    checks: tuple[Check, ...]
    not_recomputed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def differences(self) -> list[Difference]:
        return [each for check in self.checks for each in check.differences]

    def as_json(self) -> dict[str, Any]:
        return {
            "mixture": self.reference,
            "passed": self.passed,
            "checks": [check.as_json() for check in self.checks],
            "not_recomputed": list(self.not_recomputed),
        }


def named(names: Iterable[str]) -> str:
    """`a, b, c`, or `none`."""
    return ", ".join(names) or "none"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    return text if isinstance(error, AutomixerError) else f"{type(error).__name__}: {text}"
