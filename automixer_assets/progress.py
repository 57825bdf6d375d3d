"""Progress of long work: a bar where a person watches a terminal, a log line now and then everywhere else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts done units and says how fast it goes and how long it still takes."""

    def __init__(self, label: str, total: float, unit: str, log: Callable[[str], None]) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0.0
        self._skipped = 0.0
        self._log, self._started, self._last_line = log, time.monotonic(), time.monotonic()

    def advance(self, amount: float, note: str = "") -> None:
        self.done += amount
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._log(self._line(note))

    def skip(self, amount: float) -> None:
        """Count what an earlier run did: it is done, but says nothing about the speed of this one."""
        self.done += amount
        self._skipped += amount

    def _line(self, note: str) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._skipped) / elapsed
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        amount = f"{self.done:,.0f} of {self.total:,.0f} {self.unit}"
        text = f"{self.label}: {amount}, {rate:,.0f} {self.unit}/s, {left:,.0f} s left"
        return f"{text}, {note}" if note else text


class _BarProgress(Progress):
    def __init__(self, label: str, total: float, unit: str, log: Callable[[str], None], bar: object) -> None:
        super().__init__(label, total, unit, log)
        self._bar = bar

    def advance(self, amount: float, note: str = "") -> None:
        super().advance(amount, note)
        self._bar.set_postfix_str(note, refresh=False)  # pyright: ignore[reportAttributeAccessIssue]
        self._bar.update(amount)  # pyright: ignore[reportAttributeAccessIssue]

    def skip(self, amount: float) -> None:
        super().skip(amount)
        self._bar.initial += amount  # pyright: ignore[reportAttributeAccessIssue]
        self._bar.n += amount  # pyright: ignore[reportAttributeAccessIssue]


class Pace:
    """When a point of a live curve is due: 200 over the whole work, one a minute, never within 2 s of the last."""

    POINTS, LONGEST, SHORTEST = 200, 60.0, 2.0

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._step, self._clock = total / self.POINTS, clock
        self._last_done, self._last_time = 0.0, clock()

    def due(self, done: float) -> bool:
        """True when the work has come to `done` and it is time for a point, which the caller then shows."""
        waited = self._clock() - self._last_time
        if waited < self.SHORTEST or (waited < self.LONGEST and done - self._last_done < self._step):
            return False
        self._last_done, self._last_time = done, self._clock()
        return True


@contextlib.contextmanager
def progress(label: str, total: float, unit: str, log: Callable[[str], None]) -> Iterator[Progress]:
    """Report work of `total` units; the bar goes to standard error and only when that is a terminal."""
    if not sys.stderr.isatty():
        yield Progress(label, total, unit, log)
        return
    from tqdm import tqdm

    with tqdm(
        total=total, desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True, unit_scale=total > 9999
    ) as bar:
        yield _BarProgress(label, total, unit, log, bar)
