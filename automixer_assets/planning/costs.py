"""What one artefact costs, and sums of such costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cost:
    """Of one artefact. `seconds` are one worker's; `pieces` is how many workers can share the work.

    `memory` is the peak of one worker, in bytes: on an accelerator its memory, else the process's.
    """

    tokens: float = 0
    flops: float = 0
    seconds: float = 0
    bytes_read: float = 0
    bytes_written: float = 0
    memory: float = 0
    pieces: int = 1


@dataclass(frozen=True)
class Unit:
    """One artefact to be made: an asset, its partition, and its cost.

    `partition` is None for an asset without partitions, and for one whose key is not known before an earlier stage ran.

    `labels` says which snapshot, proxy, checkpoint, recipe and mixture it belongs to, where it belongs to one;
    `snapshots` which it is made from, where the settings name them.
    """

    stage: str
    partition: str | None
    cost: Cost
    labels: Mapping[str, str] = field(default_factory=dict)
    accelerator: bool = False
    snapshots: frozenset[str] | None = None

    def may_read(self, other: Unit) -> bool:
        """Whether nothing tells the two apart, so that this one may be made from the other."""
        if (
            self.snapshots is not None
            and other.labels.get("snapshot", next(iter(self.snapshots))) not in self.snapshots
        ):
            return False
        return all(other.labels[name] == value for name, value in self.labels.items() if name in other.labels)


@dataclass(frozen=True)
class StageCost:
    """All artefacts of one stage that are to be made; `current` of them are there and cost nothing."""

    stage: str
    accelerator: bool
    to_make: int
    current: int
    cost: Cost

    def wall_seconds(self, workers: int) -> float:
        """With so many workers of equal speed, no more of which can work than there are pieces."""
        return self.cost.seconds / max(1, min(workers, self.cost.pieces))


def total(costs: Iterable[Cost]) -> Cost:
    """Sums; of memory the largest; pieces add up, as artefacts of a stage do not wait for one another."""
    listed = list(costs)
    return Cost(
        tokens=sum(cost.tokens for cost in listed),
        flops=sum(cost.flops for cost in listed),
        seconds=sum(cost.seconds for cost in listed),
        bytes_read=sum(cost.bytes_read for cost in listed),
        bytes_written=sum(cost.bytes_written for cost in listed),
        memory=max((cost.memory for cost in listed), default=0),
        pieces=sum(cost.pieces for cost in listed) if listed else 1,
    )


def by_stage(units: Iterable[Unit], current: Iterable[Unit] = ()) -> list[StageCost]:
    """Stages in the order in which their first unit comes."""
    made = {id(unit) for unit in current}
    stages: dict[str, list[Unit]] = {}
    for unit in units:
        stages.setdefault(unit.stage, []).append(unit)
    rows = []
    for stage, members in stages.items():
        left = [unit for unit in members if id(unit) not in made]
        cost = total(unit.cost for unit in left)
        rows.append(StageCost(stage, members[0].accelerator, len(left), len(members) - len(left), cost))
    return rows
