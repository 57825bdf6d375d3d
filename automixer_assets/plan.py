"""The plan of a pipeline: what is still to be made, and what that takes. Nothing is started, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.lake_asset import LakeAsset, by_name
from automixer_assets.lineage import latest
from automixer_assets.partitions import checkpoints_of
from automixer_assets.plan_sizes import Given, measure
from automixer_assets.planning.constants import Constants
from automixer_assets.planning.costs import Cost, StageCost, Unit, by_stage, total
from automixer_assets.planning.sizes import given_size
from automixer_assets.planning.stages import Stages
from automixer_assets.planning.workload import SnapshotSize, Workload
from automixer_assets.resources import Automixer
from automixer_assets.stale_scores import find_stale_scores

ADDED = "one more snapshot"
NOT_COUNTED = (
    "weight_uncertainty, group_characteristics, task gradients and Dagster's own time per materialisation (about .4 s) "
    "are not counted"
)


@dataclass(frozen=True)
class Plan:
    """What is to be made, stage by stage, and what an added snapshot would take on top."""

    stages: list[StageCost]
    added: list[StageCost]
    workload: Workload
    constants: Constants
    notes: tuple[str, ...]

    @property
    def cost(self) -> Cost:
        return total(stage.cost for stage in self.stages)

    def as_json(self, workers: int) -> dict[str, Any]:
        return {
            "workers": workers,
            "snapshots": [asdict(size) for size in self.workload.snapshots],
            "stages": [_stage_json(stage, workers) for stage in self.stages],
            "added_snapshot": [_stage_json(stage, workers) for stage in self.added],
            "total": asdict(self.cost),
            "wall_seconds": sum(stage.wall_seconds(workers) for stage in self.stages),
            "machine": self.constants.machine.model_dump(),
            "constants_made": self.constants.made,
            "notes": list(self.notes),
        }


def _stage_json(stage: StageCost, workers: int) -> dict[str, Any]:
    return {**asdict(stage), "wall_seconds": stage.wall_seconds(workers)}


def make_plan(instance: dg.DagsterInstance, automixer: Automixer, constants: Constants, given: Given) -> Plan:
    """Everything that the settings ask for and that is not there yet, priced."""
    automixer = automixer.frozen()
    workload = measure(instance, automixer, given)
    stages = Stages(workload, constants)
    units = stages.units()
    current = find_current(instance, automixer, units)
    costs = by_stage(units, current)
    notes = (*workload.assumed, *_notes(stages, constants), *_too_large(costs, constants), NOT_COUNTED)
    return Plan(costs, by_stage(_added(workload, constants, given)), workload, constants, notes)


def find_current(instance: dg.DagsterInstance, automixer: Automixer, units: Sequence[Unit]) -> list[Unit]:
    """The units that are there and would be found again; none whose inputs are to be made anew.

    An input that was never made stands in the way of nothing that was made: the settings do not ask for it there.
    """
    assets = by_name(all_assets(automixer.settings()))
    scored = _scored_cells(instance, automixer, list(assets.values()))
    upstream = {name: _ancestors(name, assets) for name in assets}
    registered = set(instance.get_dynamic_partitions("snapshot"))
    current: list[Unit] = []
    changing: list[Unit] = []
    for unit in units:
        item = assets.get(unit.stage)
        blocked = any(other.stage in upstream.get(unit.stage, ()) and unit.may_read(other) for other in changing)
        if item is not None and not blocked and _is_current(instance, automixer, item, unit, scored):
            current.append(unit)
        elif unit.labels.get("snapshot") not in {None, *registered} or latest(instance, unit.stage, unit.partition):
            changing.append(unit)
    return current


def _is_current(
    instance: dg.DagsterInstance, automixer: Automixer, item: LakeAsset, unit: Unit, scored: set[tuple[str, str]]
) -> bool:
    if unit.stage.endswith("/checkpoint_influence"):
        return (unit.stage, str(unit.partition)) in scored
    if item.partitions_def is not None and unit.partition is None:
        return False
    return item.is_current(unit.partition, automixer, instance)


def _ancestors(name: str, assets: Mapping[str, LakeAsset]) -> set[str]:
    """Everything upstream of an asset, those included that have no price."""
    found: set[str] = set()
    queue = [name]
    while queue:
        item = assets[queue.pop()]
        keys = item.definition.asset_deps[dg.AssetKey.from_user_string(item.asset)]
        new = {key.to_user_string() for key in keys} & set(assets) - found
        found |= new
        queue.extend(new)
    return found


def _scored_cells(
    instance: dg.DagsterInstance, automixer: Automixer, assets: Sequence[LakeAsset]
) -> set[tuple[str, str]]:
    """(asset, cell) of the scores that are current, as the offer to score again finds them."""
    cells: set[tuple[str, str]] = set()
    snapshots = sorted(instance.get_dynamic_partitions("snapshot"))
    for finding in find_stale_scores(instance, automixer, assets):
        checkpoints = instance.get_dynamic_partitions(str(checkpoints_of(finding.proxy).name))
        every = {f"{checkpoint}|{snapshot}" for checkpoint in checkpoints for snapshot in snapshots}
        cells |= {(f"{finding.proxy}/checkpoint_influence", cell) for cell in every - set(finding.cells)}
    return cells


def _added(workload: Workload, constants: Constants, given: Given) -> list[Unit]:
    """What one more snapshot takes: its own stages, and every mixture of all snapshots made anew."""
    known = workload.snapshots
    mean = [
        sum(values) / len(known) for values in zip(*((s.documents, s.tokens, s.text_bytes) for s in known), strict=True)
    ]
    size = SnapshotSize(ADDED, mean[0], mean[1], mean[2], "mean of the others")
    if given.added is not None:
        ratio = mean[2] / max(mean[1], 1)
        size = replace(given_size(f"added={given.added}", ratio, size.document_tokens), name=ADDED)
    grown = Stages(replace(workload, snapshots=(*known, size)), constants)
    remade = {name for name, mixture in workload.settings.mixtures.items() if mixture.snapshots == "all"}
    return [
        unit
        for unit in grown.units()
        if unit.labels.get("snapshot") == ADDED
        or (unit.labels.get("mixture") in remade and unit.stage != "target_runs")
    ]


def _notes(stages: Stages, constants: Constants) -> list[str]:
    """Where a speed was measured at another shape, or while other programs ran."""
    notes = []
    for name, proxy in stages.work.trained().items():
        shape = stages.work.shape(proxy)
        speed = constants.pass_speed("scoring", shape)
        if (speed.hidden, speed.layers, speed.vocabulary) != (shape.hidden, shape.layers, shape.vocabulary):
            notes.append(
                f"{name}: speeds are those of a model of {speed.parameters / 1e6:.1f}M parameters, not "
                f"{shape.parameters / 1e6:.1f}M: calibrate with these settings where the plan will run"
            )
        if speed.source != "measured":
            notes.append(f"{name}: {speed.source}")
    if constants.free_share is not None and constants.free_share < 0.9:
        notes.append(
            f"the machine was busy when it was measured ({constants.free_share:.0%} of a processor was had); times "
            "are those of a machine left alone"
        )
    return notes


def _too_large(stages: Sequence[StageCost], constants: Constants) -> list[str]:
    """Stages that do not fit into memory as they are set, and what to change."""
    machine = constants.machine
    notes = []
    for stage in stages:
        room = (machine.device_memory_bytes if stage.accelerator else None) or machine.memory_bytes
        if stage.to_make and stage.cost.memory > room:
            remedy = (
                "training.micro_batch_size" if stage.stage.endswith(("_run", "_runs")) else "the number of directions"
            )
            notes.append(
                f"{stage.stage} needs {stage.cost.memory / 2**30:.0f} GiB in one process, more than the "
                f"{room / 2**30:.0f} GiB there are: lower {remedy}, or share it among processes"
            )
    return notes
