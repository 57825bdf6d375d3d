"""What the event log says about materialisations of this project: the facts that lineage and retention stand on.

Events never change, so whatever is read here about one of them stays true, however much is made afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from automixer_assets.errors import AutomixerError
from automixer_assets.lineage import Pin, asset_name, record_at, recorded_pins, records_of

CODE_VERSION = "dagster/code_version"


@dataclass(frozen=True)
class Event:
    """One materialisation. `settings` is None where it was recorded before settings were kept by name.

    `seconds` is the time that its planning and writing took, next to nothing where the artefact was there already.
    """

    asset: str
    partition: str | None
    storage_id: int
    run_id: str
    timestamp: float
    uri: str
    sha256: str
    code_version: str | None
    pins: tuple[Pin, ...]
    settings: dict[str, Any] | None
    settings_slice: Any
    program: dict[str, Any] | None
    seconds: float

    @property
    def name(self) -> str:
        return asset_name(self.asset, self.partition)


def read_event(instance: dg.DagsterInstance, asset: str, storage_id: int) -> Event:
    """The event with that storage id; raises AutomixerError where the log has lost it."""
    record = record_at(instance, asset, storage_id)
    event = None if record is None else _event(asset, record)
    if event is None:
        raise AutomixerError(
            f"the event log no longer holds materialisation {storage_id} of {asset}: "
            "restore AUTOMIXER_STATE from a copy"
        )
    return event


def events_of(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> Iterator[Event]:
    """Every materialisation of an asset, latest first."""
    for record in records_of(instance, asset, partition):
        event = _event(asset, record)
        if event is not None:
            yield event


def all_events(instance: dg.DagsterInstance) -> Iterator[Event]:
    """Every materialisation that the log holds, per asset latest first."""
    for key in sorted(instance.all_asset_keys()):
        yield from events_of(instance, key.to_user_string())


def ancestors(instance: dg.DagsterInstance, pins: Sequence[Pin]) -> dict[int, Event]:
    """By storage id the pinned materialisations and everything that they were made from."""
    found: dict[int, Event] = {}
    queue = list(pins)
    while queue:
        pin = queue.pop()
        if pin.storage_id not in found:
            event = found[pin.storage_id] = read_event(instance, pin.asset, pin.storage_id)
            queue.extend(event.pins)
    return found


def _event(asset: str, record: dg.EventLogRecord) -> Event | None:
    """None for a materialisation that is not of this project."""
    materialization = record.asset_materialization
    if materialization is None or "uri" not in materialization.metadata:
        return None
    values = {name: value.value for name, value in materialization.metadata.items()}
    return Event(
        asset=asset,
        partition=record.partition_key,
        storage_id=record.storage_id,
        run_id=record.run_id,
        timestamp=record.timestamp,
        uri=str(values["uri"]),
        sha256=str(values["sha256"]),
        code_version=(materialization.tags or {}).get(CODE_VERSION),
        pins=recorded_pins(materialization.metadata),
        settings=_mapping(values.get("settings in force")),
        settings_slice=(_mapping(values.get("settings")) or {}).get("slice"),
        program=_mapping(values.get("program")),
        seconds=_seconds(_mapping(values.get("seconds")) or {}),
    )


def _seconds(recorded: dict[str, Any]) -> float:
    return float(recorded.get("plan", 0)) + (0.0 if recorded.get("reused") else float(recorded.get("write", 0)))


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
