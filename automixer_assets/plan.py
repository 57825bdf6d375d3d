"""The plan of a pipeline: what is still to be made, and what that takes. Nothing is started, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.errors import ConfigurationError
from automixer_assets.lake_asset import LakeAsset, by_name
from automixer_assets.lineage import latest
from automixer_assets.partitions import checkpoints_of
from automixer_assets.planning.constants import Constants
from automixer_assets.planning.costs import Cost, StageCost, Unit, by_stage, total
from automixer_assets.planning.sizes import (
    BYTES_PER_TOKEN,
    DOCUMENT_TOKENS,
    footer_size,
    given_size,
    inventoried_size,
    task_sizes,
    tokenized_size,
)
from automixer_assets.planning.stages import Stages
from automixer_assets.planning.workload import SnapshotSize, TaskSize, Workload, assumed_task, most_checkpoints
from automixer_assets.resources import Automixer
from automixer_assets.settings import ImportedProxy, Settings
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


@dataclass(frozen=True)
class Given:
    """What the command line says about sizes that nothing else tells."""

    tokens: Sequence[str] = ()
    added: str | None = None
    vocabulary: int | None = None
    document_tokens: float | None = None


def make_plan(instance: dg.DagsterInstance, automixer: Automixer, constants: Constants, given: Given) -> Plan:
    """Everything that the settings ask for and that is not there yet, priced."""
    automixer = automixer.frozen()
    workload = measure(instance, automixer, given)
    stages = Stages(workload, constants)
    units = stages.units()
    current = find_current(instance, automixer, units)
    notes = (*workload.assumed, *_notes(stages, constants), NOT_COUNTED)
    return Plan(by_stage(units, current), by_stage(_added(workload, constants, given)), workload, constants, notes)


def measure(instance: dg.DagsterInstance, automixer: Automixer, given: Given) -> Workload:
    """The workload of the settings, with whatever sizes are known.

    Raises:
        ConfigurationError: no snapshot has a size, or the vocabulary is not known.
    """
    sizes = _Sizes(instance, automixer, given)
    settings = automixer.settings()
    snapshots = sizes.snapshots()
    tasks, vocabulary = sizes.tasks(), sizes.vocabulary()
    checkpoints = {proxy: sizes.checkpoints(proxy, len(tasks)) for proxy in settings.proxies}
    return Workload(settings, snapshots, tasks, vocabulary, checkpoints, tuple(sizes.assumed))


class _Sizes:
    """Looks sizes up, best source first, and remembers what it had to assume."""

    def __init__(self, instance: dg.DagsterInstance, automixer: Automixer, given: Given) -> None:
        self.instance, self.automixer, self.given = instance, automixer, given
        self.settings: Settings = automixer.settings()
        self.assumed: list[str] = []

    def snapshots(self) -> tuple[SnapshotSize, ...]:
        registered = self.instance.get_dynamic_partitions("snapshot")
        names = sorted({*registered, *_named_snapshots(self.settings)})
        exact = [tokenized_size(name, path) for name in names if (path := self._artifact("tokenized_corpus", name))]
        known = [size for size in exact if size.tokens]
        ratio = sum(s.text_bytes for s in known) / sum(s.tokens for s in known) if known else BYTES_PER_TOKEN
        found = {size.name: size for size in exact}
        for name in names:
            if name not in found and (size := self._untokenized(name, ratio)):
                found[name] = size
        lengths = self._document_tokens(list(found.values()))
        stated = [given_size(text, ratio, lengths) for text in self.given.tokens]
        found |= {size.name: size for size in stated}
        missing = [name for name in names if name not in found]
        if not found or (missing and not stated):
            first = (missing or ["SNAPSHOT"])[0]
            raise ConfigurationError(
                f"nothing says how large snapshot {first} is: put its files into corpus.directory, or give "
                f"--tokens {first}=10B"
            )
        if missing:
            self.assumed.append(f"no size is known of {', '.join(missing)}: left out")
        if not known:
            self.assumed.append(f"{ratio:g} bytes per token, as nothing is tokenised yet")
        return tuple(found[name] for name in sorted(found))

    def tasks(self) -> dict[str, TaskSize]:
        folder = self._artifact("validation_items", None)
        if folder is not None:
            return task_sizes(folder)
        self.assumed.append("benchmark items are short (60 tokens, answers of 6), as none are materialised")
        return {task: assumed_task(task, self.settings) for task in self.settings.tasks.names}

    def vocabulary(self) -> int:
        if self.given.vocabulary is not None:
            return self.given.vocabulary
        chosen = self.settings.tokenizer
        if chosen.snapshots:
            return chosen.vocab_size
        if chosen.path is not None and (folder := self.automixer.resolve(chosen.path)).exists():
            from automixer_assets.proxy.tokenizer import load_tokenizer

            return len(load_tokenizer(folder))
        raise ConfigurationError("the tokenizer is not here, so its size is not known: give --vocabulary 128256")

    def checkpoints(self, proxy: str, tasks: int) -> tuple[str | None, ...]:
        """The selected ones, else as many as the recipes could select at most."""
        selected = sorted(self.instance.get_dynamic_partitions(str(checkpoints_of(proxy).name)))
        if selected:
            return tuple(selected)
        chosen = self.settings.proxy(proxy)
        if isinstance(chosen, ImportedProxy):
            self.assumed.append(f"{proxy} is imported: its passes are not in the plan")
            return ()
        recipes = self.settings.recipes_of(proxy).values()
        most = min(chosen.checkpoints, sum(most_checkpoints(recipe, chosen.checkpoints, tasks) for recipe in recipes))
        if most:
            self.assumed.append(f"{proxy}: {most} checkpoints will be selected, the most that its recipes can")
        return (None,) * most

    def _untokenized(self, name: str, ratio: float) -> SnapshotSize | None:
        if folder := self._artifact("snapshot_inventory", name):
            return inventoried_size(name, folder, ratio)
        corpus = self.settings.corpus
        folder = None if "://" in corpus.directory else self.automixer.resolve(corpus.directory) / name
        files = sorted(folder.rglob("*.parquet")) if folder is not None and folder.is_dir() else []
        return footer_size(name, files, ratio) if files else None

    def _document_tokens(self, known: Sequence[SnapshotSize]) -> float:
        if self.given.document_tokens is not None:
            return self.given.document_tokens
        documents = sum(size.documents for size in known)
        if documents:
            return sum(size.tokens for size in known) / documents
        if self.given.tokens:
            self.assumed.append(f"{DOCUMENT_TOKENS:g} tokens per document, as no snapshot tells")
        return DOCUMENT_TOKENS

    def _artifact(self, asset: str, partition: str | None) -> Path | None:
        found = latest(self.instance, asset, partition)
        artifact = None if found is None else self.automixer.lake().find_uri(found.pin.uri)
        return None if artifact is None else artifact.path


def _named_snapshots(settings: Settings) -> set[str]:
    names = {*settings.tokenizer.snapshots, *settings.reference_sample.snapshots}
    for proxy in settings.proxies.values():
        names |= set() if isinstance(proxy, ImportedProxy) else set(proxy.snapshots)
    for mixture in settings.mixtures.values():
        names |= set() if mixture.snapshots == "all" else set(mixture.snapshots)
    return names


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
