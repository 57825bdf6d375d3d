"""Passes over the joint_influence shards of a mixture, in this process or elsewhere.

A statement is asked of parts, each of some shards. What parts answer is added up by exact sums, extremes and ranks
alone, so that how shards are divided changes no byte of a result. Sums of doubles are taken within single shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from automixer_assets.mixture.sql import Database, open_database

THREADS = 2


@dataclass(frozen=True)
class JointShard:
    """One joint_influence shard."""

    snapshot: str
    shard: str
    path: Path


@dataclass(frozen=True)
class Question:
    """A statement that reads joint_influence shards, its `$files`; `parameters` are the others."""

    statement: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Tie:
    """Documents tied at a group's threshold, of which it keeps the first `rank` only."""

    group: str
    column: str
    utility: float
    rank: int


Part = Sequence[JointShard]
"""One or more shards, in order."""
ShardWork = Callable[[JointShard], pa.Table]
"""What is done with a shard alone; gives a small table. It travels, so it is a function of a module, or a partial."""


class Passes(Protocol):
    """Passes over the same shards."""

    @property
    def shards(self) -> Sequence[JointShard]:
        """By snapshot and shard."""
        ...

    def ask(self, questions: Sequence[Question]) -> Iterator[pa.Table]:
        """For each question the rows of all parts, whose order may not count; one after another, for they are large."""
        ...

    def last_tied(self, ties: Sequence[Tie]) -> list[dict[str, Any]]:
        """`group, doc_id, snapshot, shard, row` of the last document that a group keeps (last_tied_documents.sql)."""
        ...

    def each(self, work: ShardWork) -> list[pa.Table]:
        """The table of every shard, in their order."""
        ...


PassesOver = Callable[[Sequence[JointShard]], Passes]


@dataclass(frozen=True)
class LocalPasses:
    """In this process; one part is the fastest."""

    shards: Sequence[JointShard]
    parts: Sequence[Part]

    def ask(self, questions: Sequence[Question]) -> Iterator[pa.Table]:
        with open_database(threads=THREADS) as database:
            for question in questions:
                yield pa.concat_tables([answer(database, question, part) for part in self.parts])

    def last_tied(self, ties: Sequence[Tie]) -> list[dict[str, Any]]:
        with open_database(threads=THREADS) as database:
            for number, part in enumerate(self.parts):
                store_tied_rows(database, ties, part)
                database.store("tied_documents", shard_parameters(part), append=number > 0)
            return database.table("last_tied_documents", {}).to_pylist()

    def each(self, work: ShardWork) -> list[pa.Table]:
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(work, self.shards))


def passes_here(joint: Sequence[JointShard]) -> LocalPasses:
    """Passes in this process over shards, in whatever order they are given."""
    shards = in_order(joint)
    return LocalPasses(shards, [shards])


def in_order(joint: Sequence[JointShard]) -> list[JointShard]:
    """By snapshot and shard."""
    return sorted(joint, key=lambda shard: (shard.snapshot, shard.shard))


def answer(database: Database, question: Question, part: Part) -> pa.Table:
    """What one part answers."""
    return database.table(question.statement, {"files": shard_parameters(part)["files"], **question.parameters})


def store_tied_rows(database: Database, ties: Sequence[Tie], part: Part) -> None:
    """Make the table `tied_rows` of a part, which `tied_documents.sql` reads."""
    files = shard_parameters(part)["files"]
    for number, tie in enumerate(ties):
        database.store("tied_rows", {"files": files, **asdict(tie)}, append=number > 0)


def shard_parameters(shards: Sequence[JointShard]) -> dict[str, Any]:
    """`$files` and `$shards` of the statements that read joint_influence shards."""
    places = [{"file": str(shard.path), "snapshot": shard.snapshot, "shard": shard.shard} for shard in shards]
    return {"files": [place["file"] for place in places], "shards": places}
