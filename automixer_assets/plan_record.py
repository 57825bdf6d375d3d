"""What a plan would have said of work that is done, beside what the lake recorded that it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from automixer_assets.lineage import latest
from automixer_assets.plan_sizes import Given, measure
from automixer_assets.planning.constants import Constants
from automixer_assets.planning.costs import Unit
from automixer_assets.planning.stages import Stages
from automixer_assets.resources import Automixer

WITHIN = 1.5
"""A stage whose prediction is off by no more than this factor counts as predicted."""


@dataclass(frozen=True)
class StageRecord:
    """One stage's artefacts: predicted seconds and those of their making, both summed."""

    stage: str
    artifacts: int
    predicted: float
    recorded: float

    @property
    def ratio(self) -> float | None:
        """Predicted over recorded; None where less than a hundredth of a second was recorded."""
        return self.predicted / self.recorded if self.recorded >= 0.01 else None

    @property
    def is_predicted(self) -> bool:
        return self.ratio is not None and 1 / WITHIN <= self.ratio <= WITHIN


def compare_with_record(
    instance: dg.DagsterInstance, automixer: Automixer, constants: Constants, given: Given
) -> list[StageRecord]:
    """Every stage of which something was made, by the latest artefact of each partition, current or not.

    An artefact that was resumed recorded its last run only, and one that found parts of itself in the lake (an
    evaluation of the same weights) only what was missing.
    """
    automixer = automixer.frozen()
    units = Stages(measure(instance, automixer, given), constants).units()
    recorded = {id(unit): _seconds(instance, automixer, unit) for unit in units}
    stages = dict.fromkeys(unit.stage for unit in units)
    rows = [_record(stage, [unit for unit in units if unit.stage == stage], recorded) for stage in stages]
    return [row for row in rows if row.artifacts]


def _record(stage: str, units: Sequence[Unit], recorded: dict[int, float | None]) -> StageRecord:
    pairs = [(unit.cost.seconds, seconds) for unit in units if (seconds := recorded[id(unit)]) is not None]
    return StageRecord(stage, len(pairs), sum(first for first, _ in pairs), sum(second for _, second in pairs))


def _seconds(instance: dg.DagsterInstance, automixer: Automixer, unit: Unit) -> float | None:
    found = latest(instance, unit.stage, unit.partition)
    artifact = None if found is None else automixer.lake().find_uri(found.pin.uri)
    return None if artifact is None else artifact.seconds
