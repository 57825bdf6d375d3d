"""From NAME, NAME@digest or a manifest file to the mixture's pinned inputs, through Dagster's events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import dagster as dg
from pydantic import ValidationError, model_validator

from automixer_assets.answers.inputs import Key, PinnedInputs, UnknownPin
from automixer_assets.catalogue import MixtureVersion, find_manifest, versions
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.lake import Lake
from automixer_assets.lineage import record_at, recorded_pins, records_of
from automixer_assets.mixture.manifest import Manifest, Pin


class ReadManifest(Manifest):
    """A manifest as it is read to be verified: sums that are wrong are for the verification to say."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> ReadManifest:
        return self


def is_file_name(name: str) -> bool:
    """Whether a user means a file and not a mixture."""
    return name.endswith(".json") or "/" in name or Path(name).is_file()


def find_inputs(instance: dg.DagsterInstance, lake: Lake, name: str) -> PinnedInputs:
    """The inputs of `NAME`, `NAME@digest` or a manifest file.

    Raises:
        ConfigurationError: no such mixture, digest or file.
        AutomixerError: a file that is no manifest.
    """
    if is_file_name(name):
        manifest = read_manifest(Path(name))
        version = next((each for each in versions(instance, manifest.mixture) if each.digest == manifest.digest), None)
    else:
        version = _named(instance, lake, name)
        manifest = read_manifest(lake.local(f"{version.uri}/manifest.json"))
    pins, unknown = closure(instance, manifest.pins)
    return PinnedInputs(manifest, lake, pins, tuple(unknown), None if version is None else _as_pin(version))


def _named(instance: dg.DagsterInstance, lake: Lake, name: str) -> MixtureVersion:
    """The version that `find_manifest` would read, whose manifest may be damaged."""
    mixture, _, digest = name.partition("@")
    found = [each for each in versions(instance, mixture) if each.digest.startswith(digest)]
    if not found or (digest and len({each.digest for each in found}) > 1):
        find_manifest(instance, lake, name)  # says what is wrong with the name
    return found[0]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file without judging its sums."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigurationError(f"{path} does not exist or cannot be read: give NAME, NAME@digest or a file") from None
    except ValueError as error:
        raise AutomixerError(f"manifest {path} is not valid JSON ({error}); export it again") from None
    try:
        return ReadManifest.model_validate(document)
    except ValidationError as error:
        issues = "; ".join(f"{_place(document, issue['loc'])}: {issue['msg']}" for issue in error.errors()[:5])
        raise AutomixerError(f"{path} does not follow the schema of manifests: {issues}") from None


def closure(instance: dg.DagsterInstance, pins: Sequence[Pin]) -> tuple[dict[Key, Pin], list[UnknownPin]]:
    """Pins and everything upstream of them, and what of the pins no event confirms."""
    found: dict[Key, Pin] = {}
    unknown: list[UnknownPin] = []
    queue = list(pins)
    while queue:
        pin = queue.pop(0)
        if (pin.asset, pin.partition) in found:
            continue
        event, differs = _event(instance, pin)
        unknown += differs
        found[pin.asset, pin.partition] = pin if event is None else _as_event(pin, event)
        if event is not None and event.asset_materialization is not None:
            queue += [Pin(**asdict(each)) for each in recorded_pins(event.asset_materialization.metadata)]
    return found, unknown


def _event(instance: dg.DagsterInstance, pin: Pin) -> tuple[dg.EventLogRecord | None, list[UnknownPin]]:
    """The pin's event, or else the latest that made the same data, and where the two disagree."""
    if pin.storage_id is not None:
        pinned = record_at(instance, pin.asset, pin.storage_id)
        if pinned is not None and _fields(pinned)["data_version"] == pin.data_version:
            return pinned, _disagreements(pin, pinned)
    for record in records_of(instance, pin.asset, pin.partition):
        if _fields(record)["data_version"] == pin.data_version:
            return record, _disagreements(pin, record)
    return None, [UnknownPin(pin, "data_version", pin.data_version, "in no event of this state")]


def _disagreements(pin: Pin, record: dg.EventLogRecord) -> list[UnknownPin]:
    found = _fields(record)
    return [
        UnknownPin(pin, name, getattr(pin, name), found[name])
        for name in ("storage_id", "run_id", "uri", "sha256")
        if getattr(pin, name) != found[name]
    ]


def _fields(record: dg.EventLogRecord) -> dict[str, object]:
    metadata = {} if record.asset_materialization is None else record.asset_materialization.metadata
    values = {name: metadata[name].value if name in metadata else None for name in ("uri", "sha256")}
    return {**values, "data_version": values["sha256"], "storage_id": record.storage_id, "run_id": record.run_id}


def _as_event(pin: Pin, record: dg.EventLogRecord) -> Pin:
    """The pin with what its event says, so that one wrong field does not hide what lies behind it."""
    return Pin.model_validate({"asset": pin.asset, "partition": pin.partition, **_fields(record)})


def _as_pin(version: MixtureVersion) -> Pin:
    return Pin(
        asset="weight_manifest",
        partition=version.mixture,
        data_version=version.digest,
        run_id=version.run_id,
        storage_id=None,
        uri=version.uri,
        sha256=version.digest,
    )


def _place(document: object, location: Sequence[object]) -> str:
    """`groups[demo].weight` for ("groups", 0, "weight")."""
    parts: list[str] = []
    for step in location:
        document = document[step] if isinstance(document, list | dict) and _has(document, step) else None  # type: ignore[index]
        name = document.get("name") if isinstance(step, int) and isinstance(document, dict) else None
        parts.append(f"[{name or step}]" if isinstance(step, int) else f".{step}")
    return "".join(parts).removeprefix(".") or "top level"


def _has(document: list | dict, step: object) -> bool:
    return step in document if isinstance(document, dict) else isinstance(step, int) and step < len(document)
