"""What a piece of work costs, whatever else the machine is doing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

LEAST_SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 1.5, 3, 50


class Clock:
    """Times work, and adds up how much of a processor this process got meanwhile.

    On a CPU the seconds of a piece of work are the smaller of wall and processor time: with several threads that is
    the wall, on a busy machine it is what would have passed on a free one. On an accelerator they are the wall's.
    """

    def __init__(self, *, accelerator: bool = False) -> None:
        self.accelerator = accelerator
        self.wall = self.processor = 0.0

    def once(self, work: Callable[[], object]) -> float:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        self._wait()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        self.wall += wall
        self.processor += processor
        return wall if self.accelerator else min(wall, processor)

    def median(self, work: Callable[[], object]) -> float:
        """Of at least three rounds after one to warm up, until they took a second and a half together."""
        warm = self.once(work)
        if warm > LEAST_SECONDS * LEAST_ROUNDS:
            return warm  # so long that what warming up costs does not show
        rounds = [self.once(work) for _ in range(LEAST_ROUNDS)]
        while sum(rounds) < LEAST_SECONDS and len(rounds) < MOST_ROUNDS:
            rounds.append(self.once(work))
        return statistics.median(rounds)

    @property
    def free_share(self) -> float:
        """Processor seconds per second of the wall, at most 1; about 1 where nothing else ran."""
        return min(1.0, self.processor / self.wall) if self.wall else 1.0

    def _wait(self) -> None:
        if self.accelerator:
            import torch

            torch.cuda.synchronize()
