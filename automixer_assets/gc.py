"""Retention: what in the lake no mixture pins and nothing current stands on, and its removal on request.

Kept are, each with everything that it was made from: the versions of every mixture (all, or the last few) and what was
found out about them, the latest materialisation of every partition that still exists, and results that the writer of
something kept published on its way. What is left is superseded, retired, or was never recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from automixer_assets.errors import AutomixerError
from automixer_assets.events import Event, all_events
from automixer_assets.lake import Artifact, Lake
from automixer_assets.lake_asset import LakeAsset, by_name, lake_kind
from automixer_assets.lake_removal import (
    Unfinished,
    artifact_size,
    discard,
    empty_trash,
    nothing_running,
    trash_size,
    unfinished,
)
from automixer_assets.run_processes import report_dead_runs

MIXTURE, GROUPS = "weight_manifest", "grouped_shards"
RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class Retention:
    """What to keep. `keep_last`: versions of each mixture, None for all of them."""

    keep_last: int | None = None
    keep_current: bool = True
    keep_unfinished: bool = True


@dataclass(frozen=True)
class Removable:
    """An artefact that nothing kept was made from. `seconds`: what its writing took."""

    uri: str
    names: list[str]
    why: str
    size: int
    seconds: float
    made: float | None


@dataclass(frozen=True)
class Survey:
    """What could go, and what stays. Sizes in bytes; `unfinished` are working folders by uri."""

    removable: list[Removable]
    kept: dict[str, int]
    unfinished: dict[str, int]
    trash: int

    @property
    def size(self) -> int:
        return sum(each.size for each in self.removable)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "size": self.size}


def survey(instance: dg.DagsterInstance, lake: Lake, assets: Sequence[LakeAsset], retention: Retention) -> Survey:
    """Look at everything, change nothing.

    Raises:
        AutomixerError: the event log does not know a mixture of the lake, or has lost a pinned materialisation.
    """
    events = {event.storage_id: event for event in all_events(instance)}
    published = {artifact.uri: artifact for artifact in lake.artifacts()}
    named = names_by_uri(events.values())
    for uri in published:
        if uri.startswith(f"{MIXTURE}/") and uri not in named:
            raise AutomixerError(
                f"{lake.location(uri)} is a mixture that the event log does not know, so what it pins cannot be told: "
                "restore the log of AUTOMIXER_STATE, or delete that folder"
            )
    mixtures = mixture_versions(events.values(), retention.keep_last)
    pinned = uris_below(events, [*mixtures, *about_mixtures(events, mixtures)])
    current = uris_below(events, _current(events.values(), instance, assets)) if retention.keep_current else set()
    kept = _with_uses(pinned | current, published, {lake_kind(event.asset) for event in events.values()})
    gone = [artifact for uri, artifact in published.items() if uri not in kept]
    return Survey(
        removable=[_removable(artifact, named.get(artifact.uri, []), retention) for artifact in gone],
        kept={uri: artifact_size(published[uri]) for uri in sorted(kept & published.keys())},
        unfinished={each.uri: each.size for each in unfinished(lake)},
        trash=trash_size(lake),
    )


def collect(instance: dg.DagsterInstance, lake: Lake, assets: Sequence[LakeAsset], retention: Retention) -> Survey:
    """Remove what `survey` finds, and what an interrupted removal left; nothing can be materialised meanwhile.

    Raises:
        AutomixerError: a run is under way, and as `survey`.
    """
    with nothing_running(lake):
        _require_no_runs(instance)
        found = survey(instance, lake, assets, retention)
        for each in found.removable:
            discard(lake, each.uri, lake.root / each.uri, f"since {each.why}")
        if not retention.keep_unfinished:
            for folder in _abandoned(lake):
                discard(lake, folder.uri, folder.path)
    empty_trash(lake)
    return found


def mixture_versions(events: Iterable[Event], keep_last: int | None) -> list[int]:
    """Storage ids of every materialisation of the versions of mixtures that are to be kept."""
    versions: dict[str | None, dict[str, list[int]]] = {}
    for event in sorted(events, key=lambda event: -event.storage_id):
        if event.asset == MIXTURE:
            versions.setdefault(event.partition, {}).setdefault(event.sha256, []).append(event.storage_id)
    return [
        storage_id
        for of_mixture in versions.values()
        for storage_ids in list(of_mixture.values())[:keep_last]
        for storage_id in storage_ids
    ]


def about_mixtures(events: Mapping[int, Event], mixtures: Sequence[int]) -> list[int]:
    """Materialisations that read one of these mixtures or its groups: targets trained on it, what is characteristic."""
    read = {events[storage_id].uri for storage_id in mixtures}
    read |= {pin.uri for storage_id in mixtures for pin in events[storage_id].pins if pin.asset == GROUPS}
    return [
        event.storage_id
        for event in events.values()
        if event.asset != MIXTURE and any(pin.uri in read for pin in event.pins)
    ]


def uris_below(events: Mapping[int, Event], roots: Iterable[int]) -> set[str]:
    """Artefacts of these materialisations and of all that they were made from.

    Raises:
        AutomixerError: the event log has lost one of them.
    """
    seen: set[int] = set()
    queue = list(roots)
    while queue:
        storage_id = queue.pop()
        if storage_id in seen:
            continue
        seen.add(storage_id)
        for pin in events[storage_id].pins:
            if pin.storage_id not in events:
                raise AutomixerError(
                    f"the event log no longer holds materialisation {pin.storage_id} of {pin.name}, which "
                    f"{events[storage_id].name} pins: restore AUTOMIXER_STATE from a copy; nothing was removed"
                )
            queue.append(pin.storage_id)
    return {events[storage_id].uri for storage_id in seen}


def names_by_uri(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Events by the artefact that they named, latest first."""
    named: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: -event.storage_id):
        named.setdefault(event.uri, []).append(event)
    return named


def _current(events: Iterable[Event], instance: dg.DagsterInstance, assets: Sequence[LakeAsset]) -> Iterator[int]:
    """The latest materialisation of every partition that still exists.

    Of assets that the settings do not define, every partition counts: another settings file may share this state.
    """
    defined, latest = by_name(assets), dict[tuple[str, str | None], int]()
    for event in sorted(events, key=lambda event: event.storage_id):
        latest[event.asset, event.partition] = event.storage_id
    keys: dict[str, set[str]] = {}
    for name, item in defined.items():
        if item.partitions_def is not None:
            keys[name] = set(map(str, item.partitions_def.get_partition_keys(dynamic_partitions_store=instance)))
    for (asset, partition), storage_id in latest.items():
        if asset not in keys or partition in keys[asset]:
            yield storage_id


def _with_uses(kept: set[str], published: Mapping[str, Artifact], recorded_kinds: set[str]) -> set[str]:
    """With what their writers used; where that was not recorded yet, with every artefact that is no asset's."""
    queue, found = list(kept), set(kept)
    while queue:
        artifact = published.get(queue.pop())
        uses = () if artifact is None else artifact.uses
        if uses is None:
            uses = [uri for uri in published if uri.partition("/")[0] not in recorded_kinds]
        new = set(uses) - found
        found |= new
        queue.extend(new)
    return found


def _removable(artifact: Artifact, events: list[Event], retention: Retention) -> Removable:
    if not events:
        why = "nothing that is kept used it" if artifact.uses is not None else "no materialisation names it"
    elif artifact.kind == MIXTURE:
        why = f"it is none of the last {retention.keep_last} versions of its mixture"
    else:
        why = "no mixture pins it"
    return Removable(
        uri=artifact.uri,
        names=list(dict.fromkeys(event.name for event in events)),
        why=why,
        size=artifact_size(artifact),
        seconds=artifact.seconds,
        made=max((event.timestamp for event in events), default=None),
    )


def _require_no_runs(instance: dg.DagsterInstance) -> None:
    """A run records its materialisation after the work is published, so its lock alone is not enough."""
    report_dead_runs(instance)
    for run in instance.get_runs(dg.RunsFilter(statuses=RUNNING), limit=1):
        raise AutomixerError(f"run {run.run_id} is under way: wait until it ends, or cancel it, then run again")


def _abandoned(lake: Lake) -> list[Unfinished]:
    return [each for each in unfinished(lake) if not lake.is_being_written(each.uri)]
