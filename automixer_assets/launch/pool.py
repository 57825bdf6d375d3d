"""A pool of Ray actors over named tasks: each until it is done, or has failed too often; never a silent wait."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.cluster import Head, connected, free_resources, load_ray, versions
from automixer_assets.launch.job import Job, Log, OnDone
from automixer_assets.launch.worker import Worker
from automixer_assets.out_of_memory import first_line, is_out_of_memory
from automixer_assets.settings.launchers import RayCluster

POLL_SECONDS = 1.0
"""How often a pool without news looks at the clock."""
MEMORY_REMEDY = "lower corpus.documents_per_shard, or have fewer workers per node (launchers.ray.cpus_per_worker)"


def run_on_ray(
    job: Job,
    tasks: Mapping[str, Any],
    cluster: RayCluster,
    *,
    on_done: OnDone,
    log: Log,
    unit: str = "shards",
    stays: bool = True,
) -> None:
    """Do every task of a job, by name, on the cluster of the settings; `on_done(name)` after each.

    Args:
        unit: what tasks are called in messages.
        stays: whether the next run goes on from what is done.

    Raises:
        AutomixerError: no cluster, no worker for `patience_seconds`, workers that cannot start, a head that is gone;
            or, when all others are done, the tasks that failed `attempts` times, each with its last error.
    """
    if cluster.job_server is not None:
        from automixer_assets.launch.ray_job import run_as_ray_job

        run_as_ray_job(job, tasks, cluster, on_done=on_done, log=log)
    else:
        run_pool(job, tasks, cluster, versions(), on_done=on_done, log=log, unit=unit, stays=stays)


@dataclass(frozen=True)
class Used:
    """What a pass took place on: the cluster's own address, and how many workers were ready on which node."""

    cluster: str
    workers: Mapping[str, int]


def run_pool(
    job: Job,
    tasks: Mapping[str, Any],
    cluster: RayCluster,
    versions: Mapping[str, str],
    *,
    on_done: OnDone,
    log: Log,
    unit: str = "shards",
    stays: bool = True,
) -> Used:
    """The same with this process as the driver; workers refuse other packages than in `versions`."""
    with connected(cluster) as head:
        pool = ActorPool(job, cluster, head, log, versions, unit)
        failed = pool.run(tasks, on_done)
    if failed:
        listed = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        raise AutomixerError(
            f"{len(failed)} of {len(tasks)} {unit} failed {cluster.attempts} times each, the others are done"
            f"{' and stay' if stays else ''}: {listed}"
        )
    return Used(head.address, dict(pool.nodes))


@dataclass
class ActorPool:
    """Workers of one job. One that dies is replaced; its task goes to whoever is free next."""

    job: Job
    cluster: RayCluster
    head: Head
    log: Log
    versions: Mapping[str, str]
    unit: str = "shards"
    running: dict[Any, tuple[Any, str | None]] = field(default_factory=dict)  # reference -> worker, task or None: start
    waiting: deque[str] = field(default_factory=deque)
    failures: Counter[str] = field(default_factory=Counter)
    failed_starts: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    set_aside: dict[str, str] = field(default_factory=dict)  # task -> its last error

    def run(self, tasks: Mapping[str, Any], on_done: OnDone) -> dict[str, str]:
        """Run all tasks; returns those that failed `attempts` times, with their last error."""
        self.waiting.extend(tasks)
        try:
            for _ in range(min(self.cluster.workers, len(tasks))):
                self._start()
            last_news = time.monotonic()
            while self.waiting or self._at_work():
                reference = self._next()
                if reference is not None or self._at_work():
                    last_news = time.monotonic()
                elif time.monotonic() - last_news > self.cluster.patience_seconds:
                    raise AutomixerError(self._starved())
                if reference is not None:
                    self._settle(reference, tasks, on_done)
        finally:
            self._stop()
        return self.set_aside

    def _at_work(self) -> bool:
        return any(task is not None for _, task in self.running.values())

    def _start(self) -> None:
        ray = load_ray()
        needs = {"num_cpus": self.cluster.cpus_per_worker, "num_gpus": self.cluster.gpus_per_worker}
        worker = ray.remote(max_restarts=0, max_task_retries=0, **needs)(Worker).remote(self.job, self.versions)
        self.running[worker.ready.remote()] = (worker, None)

    def _next(self) -> Any:
        ray = load_ray()
        self.head.require_answer()
        finished, _ = ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        return finished[0] if finished else None

    def _settle(self, reference: Any, tasks: Mapping[str, Any], on_done: OnDone) -> None:
        """Take an outcome in, and give its worker, or the one in its place, something to do."""
        ray = load_ray()
        worker, task = self.running.pop(reference)
        try:
            outcome = ray.get(reference)
        except ray.exceptions.RayError as error:
            usable = task is not None and isinstance(getattr(error, "cause", None), AutomixerError)
            self._failed(task, error)
        else:
            usable = True
            if task is None:
                self._started(outcome)
            else:
                on_done(task)
        if usable and self.waiting:
            name = self.waiting.popleft()
            self.running[worker.run.remote(tasks[name])] = (worker, name)
            return
        ray.kill(worker)  # after an error of another kind the process is not trusted: a GPU's, say, stays with it
        if self.waiting:
            self._start()

    def _started(self, node: str) -> None:
        self.failed_starts = 0
        self.nodes[node] += 1
        self.log(f"a Ray worker on {node} is ready, {len(self.waiting)} {self.unit} wait")

    def _failed(self, task: str | None, error: Exception) -> None:
        reason = _reason(error)
        if task is None:
            self.failed_starts += 1
            self.log(f"a Ray worker could not start: {reason}")
            if self.failed_starts >= self.cluster.attempts:
                raise AutomixerError(
                    f"{self.failed_starts} Ray workers in a row could not start, the last because {reason}"
                ) from error
            return
        self.failures[task] += 1
        self.log(f"{task} failed, attempt {self.failures[task]} of {self.cluster.attempts}: {reason}")
        if self.failures[task] < self.cluster.attempts:
            self.waiting.append(task)
        else:
            self.set_aside[task] = reason

    def _starved(self) -> str:
        return (
            f"no Ray worker was ready for {self.cluster.patience_seconds:g} s and "
            f"{len(self.waiting)} {self.unit} wait: each worker needs {self.cluster.cpus_per_worker:g} CPUs and "
            f"{self.cluster.gpus_per_worker:g} GPUs, and "
            f"{free_resources()}; add nodes, or ask for less in `launchers.ray`"
        )

    def _stop(self) -> None:
        ray = load_ray()
        for worker, _ in self.running.values():
            ray.kill(worker)
        self.running.clear()


def _reason(error: Exception) -> str:
    """What the worker raised, or how it ended: one sentence of the pages that Ray gives."""
    ray = load_ray()
    cause = getattr(error, "cause", None)
    if isinstance(cause, AutomixerError):
        return str(cause)
    if isinstance(error, ray.exceptions.OutOfMemoryError) or (cause is not None and is_out_of_memory(cause)):
        return f"the worker ran out of memory ({first_line(cause or error)}): {MEMORY_REMEDY}"
    if cause is not None:
        return f"{type(cause).__name__}: {first_line(cause)}"
    if isinstance(error, ray.exceptions.ActorDiedError):
        if "node has died" in str(error):
            return "its node died"
        return f"its worker was killed, as the kernel does when memory runs out; then {MEMORY_REMEDY}"
    return first_line(error)
