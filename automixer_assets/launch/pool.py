"""A pool of Ray actors over named tasks: each task until it is done, or has failed too often; never a silent wait."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.settings.launchers import RayCluster

POLL_SECONDS = 1.0
"""How often a pool without news looks at the clock."""


@dataclass
class ActorPool:
    """Workers of one kind. A worker that dies is replaced; its task goes to whoever is free next.

    `create` makes an actor handle whose class has a method `ready`; `submit` gives a worker a task and returns Ray's
    reference to the outcome.
    """

    create: Callable[[], Any]
    submit: Callable[[Any, Any], Any]
    cluster: RayCluster
    running: dict[Any, tuple[Any, str | None]] = field(default_factory=dict)  # reference -> worker, task or None: start
    failures: Counter[str] = field(default_factory=Counter)
    failed_starts: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)  # task -> its last error

    def run(self, tasks: Mapping[str, Any], on_done: Callable[[str], None]) -> dict[str, str]:
        """Run all tasks; returns those that failed `attempts` times, with their last error.

        Raises:
            AutomixerError: no worker could be started, or there was none for `patience_seconds`.
        """
        waiting = deque(tasks)
        try:
            for _ in range(min(self.cluster.workers, len(tasks))):
                self._start()
            last_news = time.monotonic()
            while self.running and (waiting or any(task for _, task in self.running.values())):
                reference = self._next()
                if reference is not None or any(task for _, task in self.running.values()):
                    last_news = time.monotonic()
                elif time.monotonic() - last_news > self.cluster.patience_seconds:
                    raise AutomixerError(self._starved(len(waiting)))
                if reference is not None:
                    self._settle(reference, tasks, waiting, on_done)
        finally:
            self._stop()
        return self.set_aside

    def _start(self) -> None:
        worker = self.create()
        self.running[worker.ready.remote()] = (worker, None)

    def _next(self) -> Any:
        import ray

        finished, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        return finished[0] if finished else None

    def _settle(
        self, reference: Any, tasks: Mapping[str, Any], waiting: deque[str], on_done: Callable[[str], None]
    ) -> None:
        """Take an outcome in, and give its worker, or the one in its place, something to do."""
        import ray

        worker, task = self.running.pop(reference)
        alive = True
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            alive = isinstance(error, ray.exceptions.RayTaskError)
            self._failed(task, error, waiting)
        else:
            self.failed_starts = 0
            if task is not None:
                on_done(task)
        if not alive:
            if waiting:
                self._start()
        elif waiting:
            name = waiting.popleft()
            self.running[self.submit(worker, tasks[name])] = (worker, name)
        else:
            ray.kill(worker)

    def _failed(self, task: str | None, error: Exception, waiting: deque[str]) -> None:
        if task is None:
            self.failed_starts += 1
            if self.failed_starts >= self.cluster.attempts:
                raise AutomixerError(
                    f"{self.failed_starts} Ray workers in a row could not start, the last with: {_last_line(error)}"
                ) from error
            return
        self.failures[task] += 1
        if self.failures[task] < self.cluster.attempts:
            waiting.append(task)
        else:
            self.set_aside[task] = _last_line(error)

    def _starved(self, n_waiting: int) -> str:
        import ray

        return (
            f"no Ray worker was available for {self.cluster.patience_seconds:g} s and {n_waiting} shards wait: each "
            f"worker needs {self.cluster.cpus_per_worker:g} CPUs and {self.cluster.gpus_per_worker:g} GPUs, and the "
            f"cluster has free {ray.available_resources()} of {ray.cluster_resources()}; add nodes, or ask for less "
            "in `launchers.ray`"
        )

    def _stop(self) -> None:
        import ray

        for worker, _ in self.running.values():
            ray.kill(worker)
        self.running.clear()


def _last_line(error: Exception) -> str:
    """The innermost message: Ray puts the worker's whole traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if "AutomixerError:" in line), None)
    return (cause or (lines[-1] if lines else type(error).__name__)).rpartition("AutomixerError: ")[2]
