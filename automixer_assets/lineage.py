"""Lineage: pins. Every materialisation records exactly which upstream materialisations it read.

Dagster's input tags name the latest event of any partition of the input; pins name the event of the partition that
was read, its data version and the lake folder, and data is read through them only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import dagster as dg

from automixer_assets.errors import AutomixerError

PAGE = 200
"""Records of the event log that are read at a time."""


@dataclass(frozen=True)
class Pin:
    """One upstream materialisation. `uri` is relative to the lake's root; `sha256` is over the folder's files."""

    asset: str
    partition: str | None
    data_version: str
    run_id: str
    storage_id: int
    uri: str
    sha256: str

    @property
    def name(self) -> str:
        return asset_name(self.asset, self.partition)


@dataclass(frozen=True)
class Materialized:
    """The latest materialisation of an asset's partition, as this project records it."""

    pin: Pin
    settings: str
    failed_checks: tuple[str, ...]


def asset_name(asset: str, partition: str | None) -> str:
    """`tokenized_corpus[MW-2026-01]`: how messages name a partition of an asset."""
    return asset if partition is None else f"{asset}[{partition}]"


def records_of(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> Iterator[dg.EventLogRecord]:
    """Every materialisation of an asset, or of one partition of it, latest first; a page at a time."""
    key = dg.AssetKey.from_user_string(asset)
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=None if partition is None else [partition])
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(wanted, limit=PAGE, cursor=cursor)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor


def record_at(instance: dg.DagsterInstance, asset: str, storage_id: int) -> dg.EventLogRecord | None:
    """The materialisation with that storage id, or None where the log has lost it."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey.from_user_string(asset), storage_ids=[storage_id])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0] if records else None


def latest(instance: dg.DagsterInstance, asset: str, partition: str | None) -> Materialized | None:
    """The latest materialisation of exactly this partition, or None."""
    key = dg.AssetKey.from_user_string(asset)
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=None if partition is None else [partition])
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records:
        return None
    record = records[0]
    materialization = record.asset_materialization
    assert materialization is not None
    metadata = materialization.metadata
    if "uri" not in metadata:
        return None
    pin = Pin(
        asset=asset,
        partition=partition,
        data_version=_text(metadata, "sha256"),
        run_id=record.run_id,
        storage_id=record.storage_id,
        uri=_text(metadata, "uri"),
        sha256=_text(metadata, "sha256"),
    )
    return Materialized(pin, _text(metadata, "settings digest"), tuple(json.loads(_text(metadata, "failed_checks"))))


def resolve_pin(instance: dg.DagsterInstance, asset: str, partition: str | None, reader: str) -> tuple[Pin, str]:
    """The pin that `reader` should read, and the digest of the settings that it was made with.

    Raises:
        AutomixerError: nothing is materialised there, or a blocking check of it failed.
    """
    name = asset_name(asset, partition)
    found = latest(instance, asset, partition)
    if found is None:
        option = "" if partition is None else f" --partition '{partition}'"
        raise AutomixerError(
            f"{reader} needs {name}, which is not materialised: run `automixer materialize {asset}{option}`"
        )
    if found.failed_checks:
        raise AutomixerError(
            f"{reader} needs {name}, whose check {found.failed_checks[0]!r} failed: see the check on its asset page, "
            "mend the input and materialise it again"
        )
    return found.pin, found.settings


def upstream(instance: dg.DagsterInstance, pin: Pin) -> tuple[Pin, ...]:
    """The pins of a pinned materialisation, whatever has been materialised since."""
    return _pins_of(instance, pin.asset, pin.storage_id)


def ancestry(instance: dg.DagsterInstance, pins: Sequence[Pin]) -> frozenset[tuple[str, str | None, str]]:
    """(asset, partition, data version) of the pins and of everything that they were made from."""
    found: dict[int, Pin] = {}
    queue = list(pins)
    while queue:
        pin = queue.pop()
        if pin.storage_id not in found:
            found[pin.storage_id] = pin
            queue.extend(upstream(instance, pin))
    return frozenset((pin.asset, pin.partition, pin.data_version) for pin in found.values())


def require_consistent(instance: dg.DagsterInstance, pins: Sequence[Pin], reader: str) -> None:
    """Refuse to combine artefacts that were made from different versions of a common input.

    Raises:
        AutomixerError: names the two artefacts and the input whose versions differ.
    """
    seen: dict[tuple[str, str | None], tuple[Pin, Pin]] = {}
    queue = [(pin, pin) for pin in pins]
    visited: set[int] = set()
    while queue:
        pin, via = queue.pop(0)
        other, other_via = seen.setdefault((pin.asset, pin.partition), (pin, via))
        if other.data_version != pin.data_version:
            older = via if pin.storage_id < other.storage_id else other_via
            raise AutomixerError(
                f"{reader} would mix two versions of {pin.name}: {older.name} was made from an older one than "
                f"{(other_via if older is via else via).name}; materialise what lies between them again "
                f"(`automixer materialize +{older.asset}`)"
            )
        if pin.storage_id not in visited:
            visited.add(pin.storage_id)
            queue.extend((parent, via) for parent in upstream(instance, pin))


def _pins_of(instance: dg.DagsterInstance, asset: str, storage_id: int) -> tuple[Pin, ...]:
    cached = _PINS.setdefault(instance, {})
    if storage_id not in cached:
        record = record_at(instance, asset, storage_id)
        if record is None or record.asset_materialization is None:
            raise AutomixerError(
                f"the event log no longer holds materialisation {storage_id} of {asset}: "
                "restore AUTOMIXER_STATE from a copy"
            )
        cached[storage_id] = recorded_pins(record.asset_materialization.metadata)
    return cached[storage_id]


_PINS: WeakKeyDictionary[dg.DagsterInstance, dict[int, tuple[Pin, ...]]] = WeakKeyDictionary()
"""Events never change, so pins are looked up once per storage id."""


def recorded_pins(metadata: Mapping[str, dg.MetadataValue]) -> tuple[Pin, ...]:
    """The pins that a materialisation of this project recorded."""
    return tuple(Pin(**document) for document in json.loads(_text(metadata, "pins")))


def pins_json(pins: list[Pin]) -> list[dict[str, object]]:
    return [asdict(pin) for pin in pins]


def _text(metadata: Mapping[str, dg.MetadataValue], name: str) -> str:
    value = metadata[name].value
    return value if isinstance(value, str) else json.dumps(value)
