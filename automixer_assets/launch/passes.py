"""Passes over a mixture's shards on a Ray cluster: parts answer in files on the shared lake, the driver adds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.files import atomic_folder
from automixer_assets.launch.cluster import connected
from automixer_assets.launch.job import Job, Log, RunTasks, make_once, mixture_launcher, require_folder
from automixer_assets.mixture.parquet import write_batches, write_table
from automixer_assets.mixture.passes import (
    JointShard,
    Part,
    PassesOver,
    Question,
    ShardWork,
    Tie,
    answer,
    in_order,
    passes_here,
    shard_parameters,
    store_tied_rows,
)
from automixer_assets.mixture.sql import open_database
from automixer_assets.settings.launchers import Launchers

PARTS_PER_WORKER = 2
"""So that one slow worker does not hold up the others for a whole round."""


@dataclass(frozen=True)
class PartTask:
    """A part, and the name of what it leaves in the folder of its job."""

    name: str
    part: Part


@dataclass(frozen=True)
class AnswerJob:
    """Ask parts questions; a part leaves a folder with a file for each question."""

    folder: Path
    questions: Sequence[Question]

    def open(self) -> Callable[[PartTask], None]:
        require_folder(self.folder)
        return lambda task: make_once(self.folder / task.name, lambda: self._answer(task))

    def _answer(self, task: PartTask) -> None:
        with atomic_folder(self.folder / task.name) as answers, open_database() as database:
            for number, question in enumerate(self.questions):
                pq.write_table(answer(database, question, task.part), answers / f"{number}.parquet")


@dataclass(frozen=True)
class TieJob:
    """Write down the documents of parts that are tied at a threshold."""

    folder: Path
    ties: Sequence[Tie]

    def open(self) -> Callable[[PartTask], None]:
        require_folder(self.folder)
        return lambda task: make_once(self.folder / task.name, lambda: self._write(task))

    def _write(self, task: PartTask) -> None:
        with open_database() as database:
            store_tied_rows(database, self.ties, task.part)
            write_batches(database.batches("tied_documents", shard_parameters(task.part)), self.folder / task.name)


@dataclass(frozen=True)
class EachJob:
    """Do something with every shard alone, and write its table down."""

    folder: Path
    work: ShardWork

    def open(self) -> Callable[[JointShard], None]:
        require_folder(self.folder)
        return lambda shard: make_once(self.table(shard), lambda: write_table(self.work(shard), self.table(shard)))

    def table(self, shard: JointShard) -> Path:
        return self.folder / shard.snapshot / f"{shard.shard}.parquet"


@dataclass(frozen=True)
class TaskPasses:
    """Passes as rounds of tasks; `folder`, on the file system that all nodes share, is theirs alone and not kept."""

    shards: Sequence[JointShard]
    parts: Mapping[str, PartTask]
    run: RunTasks
    folder: Path

    def ask(self, questions: Sequence[Question]) -> Iterator[pa.Table]:
        if not questions:
            return
        folder = self._round()
        self._do(AnswerJob(folder, questions), self.parts)
        for number in range(len(questions)):
            answers = [folder / task.name / f"{number}.parquet" for task in self.parts.values()]
            yield pa.concat_tables([pq.read_table(path) for path in answers])

    def last_tied(self, ties: Sequence[Tie]) -> list[dict[str, Any]]:
        folder = self._round()
        self._do(TieJob(folder, ties), self.parts)
        written = {"files": [str(folder / task.name) for task in self.parts.values()]}
        with open_database() as database:
            database.store("written_rows", written, into="tied_documents")
            return database.table("last_tied_documents", {}).to_pylist()

    def each(self, work: ShardWork) -> list[pa.Table]:
        job = EachJob(self._round(), work)
        self._do(job, {f"{shard.snapshot}/{shard.shard}": shard for shard in self.shards})
        return [pq.read_table(job.table(shard)) for shard in self.shards]

    def _do(self, job: Job, tasks: Mapping[str, Any]) -> None:
        self.run(job, tasks, lambda name: None)

    def _round(self) -> Path:
        folder = self.folder / f"round-{sum(1 for _ in self.folder.iterdir()):03d}"
        folder.mkdir()
        return folder


@contextmanager
def mixture_passes(launchers: Launchers, scratch: Path, log: Log) -> Iterator[PassesOver]:
    """Passes where the settings say; on Ray the cluster stays joined, or up, from one round of tasks to the next.

    Args:
        scratch: a folder of the lake for what parts answer.
    """
    if launchers.mixture == "local":
        yield passes_here
        return
    workers = launchers.ray.without_gpus()
    run = mixture_launcher(launchers, log, unit="tasks", stays=False)
    scratch.mkdir(parents=True)

    def on_ray(joint: Sequence[JointShard]) -> TaskPasses:
        shards = in_order(joint)
        return TaskPasses(shards, named_parts(shards, workers.workers * PARTS_PER_WORKER), run, scratch)

    with connected(workers):
        yield on_ray


def named_parts(shards: Sequence[JointShard], n_parts: int) -> dict[str, PartTask]:
    """At most so many parts, of about as many documents each by their footers; named by their first and last shard."""
    rows = [pq.read_metadata(shard.path).num_rows for shard in shards]
    total, before, numbers = max(sum(rows), 1), 0, list[int]()
    for count in rows:
        numbers.append(min(before * n_parts // total, n_parts - 1))
        before += count
    parts = [
        [shard for _, shard in part] for _, part in groupby(zip(numbers, shards, strict=True), lambda pair: pair[0])
    ]
    return {_name(part): PartTask(f"part-{number:05d}", part) for number, part in enumerate(parts)}


def _name(part: Part) -> str:
    first, last = (f"{shard.snapshot}/{shard.shard}" for shard in (part[0], part[-1]))
    return first if len(part) == 1 else f"{first} to {last}"
