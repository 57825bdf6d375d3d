"""Checks that warn: a snapshot unlike those before it, and weights that moved more than they should, with the cause."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from automixer_assets import metadata
from automixer_assets.drift import Movement, category_movement, number_movement
from automixer_assets.errors import AutomixerError
from automixer_assets.events import Event, ancestors, events_of, read_event
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import CheckOutcome, Comparison, Scope
from automixer_assets.lineage import Pin, asset_name, latest
from automixer_assets.mixture.groups import UTILITY_PREFIX
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.mixture.shifts import Shift, threshold_shifts, weight_shifts
from automixer_assets.pages.drift import show_movements, show_shifts
from automixer_assets.partitions import multi_key
from automixer_assets.settings_in_force import settings_in_force

NUMBERS = ("n_tokens", "language_score", "score", "int_score")
CATEGORIES = ("language",)
SHOWN_CHANGES = 6

SNAPSHOT_DRIFT = Comparison(
    "resembles_previous_snapshots",
    "Utility, length, language and quality are distributed as in the snapshots before it (`drift:` in the settings).",
    lambda scope, artifact: compare_snapshot(scope, artifact),
)
MIXTURE_DRIFT = Comparison(
    "moved_within_bounds",
    "No threshold and no weight moved further from the previous version than `drift:` in the settings allows.",
    lambda scope, artifact: compare_version(scope, artifact),
)


def compare_snapshot(scope: Scope, artifact: Artifact) -> CheckOutcome:
    """A snapshot's documents and scores against those of the snapshots before it, in name order."""
    recipe, snapshot = scope.keys
    bounds = scope.settings.drift
    earlier = [name for name in sorted(scope.instance.get_dynamic_partitions("snapshot")) if name < snapshot]
    previous = {name: found for name in earlier if (found := _comparable_scores(scope, recipe, name)) is not None}
    names = list(previous)[-bounds.previous :]
    if not names:
        return CheckOutcome(True, "there is no earlier snapshot with such scores to compare with")
    old, new = _scores([previous[name] for name in names]), _scores([artifact])
    movements = [
        *(number_movement(column, old[column], new[column]) for column in new.columns if column in old.columns),
        *_document_movements(_documents(scope, names), _documents(scope, [snapshot])),
    ]
    found = [movement for movement in movements if movement is not None]
    said = [
        f"{movement.column.removeprefix(UTILITY_PREFIX)}: {' and '.join(beyond)}"
        for movement in found
        if (beyond := movement.beyond(bounds.population_stability, bounds.quantile_shift))
    ]
    unjudged = "" if all(movement.judged for movement in found) else " (too few documents to judge)"
    return CheckOutcome(
        not said,
        f"{snapshot} against {', '.join(names)}: {'; '.join(said) or 'nothing moved beyond the bounds'}{unjudged}",
        show_movements(found, (old["joint_utility"], new["joint_utility"]), ", ".join(names)),
    )


def compare_version(scope: Scope, artifact: Artifact) -> CheckOutcome:
    """A mixture's thresholds and weights against those of its previous version, and what moved them."""
    events = events_of(scope.instance, scope.asset, scope.key)
    event = next((each for each in events if each.sha256 != artifact.content), None)
    if event is None:
        return CheckOutcome(True, "there is no earlier version to compare with")
    before, after = (load_manifest(each.file("manifest.json")) for each in (scope.lake.open(event.uri), artifact))
    grouped = next(pin for pin in scope.pins if pin.asset == "grouped_shards")
    joint = _joint_pins(scope, grouped)
    shifts = weight_shifts(before, after, scope.lake.open(grouped.uri).by_file)
    if _same_scale(scope, event):
        shifts += threshold_shifts(before, after, _shards(scope, joint), scope.settings.mixture(scope.key).top_share)
    new_snapshots, changes = _changes(scope, event, joint)
    said = [_sentence(shift, new_snapshots) for shift in shifts if abs(shift.moved) > _bound(scope, shift)]
    reference = f"{before.mixture}@{before.digest[:12]}"
    because = f"; changed since {reference}: {', '.join(changes) or 'nothing that it pins'}"
    return CheckOutcome(
        not said,
        ("; ".join(said) or f"nothing moved beyond the bounds since {reference}") + (because if said else ""),
        show_shifts(shifts, reference),
    )


def _sentence(shift: Shift, new_snapshots: Sequence[str]) -> str:
    cause = shift.cause(new_snapshots)
    by = "" if cause is None else f", mostly by snapshot {cause} ({shift.parts[cause]:+.3f})"
    measure = f"{shift.before:.4g} → {shift.after:.4g}"
    if shift.what == "threshold":
        measure += f", past {abs(shift.moved):.1%} of the documents"
    return f"{shift.what} of {shift.group} {measure}{by}"


def _bound(scope: Scope, shift: Shift) -> float:
    bounds = scope.settings.drift
    return bounds.threshold_shift if shift.what == "threshold" else bounds.weight_shift


def _comparable_scores(scope: Scope, recipe: str, snapshot: str) -> Artifact | None:
    """Joint influence that was made under the same settings and still lies in the lake."""
    found = latest(scope.instance, scope.asset, multi_key(recipe=recipe, snapshot=snapshot))
    same = found is not None and found.settings == scope.made_with
    return scope.lake.find_uri(found.pin.uri) if found is not None and same else None


def _scores(artifacts: Sequence[Artifact]) -> pl.DataFrame:
    """Joint utility and the groups' utilities; the columns that all have."""
    frames = []
    for artifact in artifacts:
        files = sorted(artifact.by_file.glob("shard-*.parquet"))
        names = pl.read_parquet_schema(files[0])
        columns = [name for name in names if name.startswith(UTILITY_PREFIX) or name == "joint_utility"]
        frames.append(metadata.sample(files, columns))
    common = [column for column in frames[0].columns if all(column in frame.columns for frame in frames)]
    return pl.concat([frame.select(common) for frame in frames])


def _documents(scope: Scope, snapshots: Sequence[str]) -> pl.DataFrame:
    """What the inventories carried about documents."""
    frames = []
    for snapshot in snapshots:
        found = latest(scope.instance, "tokenized_corpus", snapshot)
        if found is None:
            raise AutomixerError(f"tokenized_corpus[{snapshot}] is not materialised: materialise it to compare with it")
        files = sorted(scope.lake.open(found.pin.uri).by_file.glob("shard-*.parquet"))
        frames.append(metadata.sample(files, [*NUMBERS, *CATEGORIES]))
    return pl.concat(frames)


def _document_movements(old: pl.DataFrame, new: pl.DataFrame) -> list[Movement | None]:
    return [
        *(number_movement(column, old[column], new[column]) for column in NUMBERS),
        *(category_movement(column, old[column], new[column]) for column in CATEGORIES),
    ]


def _joint_pins(scope: Scope, grouped: Pin) -> list[Pin]:
    pins = read_event(scope.instance, grouped.asset, grouped.storage_id).pins
    return [pin for pin in pins if pin.asset == "joint_influence"]


def _shards(scope: Scope, joint: Sequence[Pin]) -> dict[str, list[Path]]:
    """Joint influence files by snapshot."""
    return {_snapshot(pin): sorted(scope.lake.open(pin.uri).by_file.glob("shard-*.parquet")) for pin in joint}


def _snapshot(pin: Pin) -> str:
    return str(pin.partition).split("|")[1]


def _same_scale(scope: Scope, event: Event) -> bool:
    """Whether the utilities of both versions may be compared: one selection of checkpoints, one normalisation."""
    recipe = f"recipes.{scope.settings.mixture(scope.key).recipe}"
    old = {pin.asset: pin.data_version for pin in event.pins if pin.asset == "selected_checkpoints"}
    new = {pin.asset: pin.data_version for pin in scope.pins if pin.asset == "selected_checkpoints"}
    now = settings_in_force(scope.asset, scope.partition_key, scope.settings)
    return old == new and (event.settings or {}).get(recipe) == now.get(recipe)


def _changes(scope: Scope, event: Event, joint: Sequence[Pin]) -> tuple[list[str], list[str]]:
    """Snapshots that are new or have other scores, and in words everything that differs from the earlier version."""
    old = ancestors(scope.instance, event.pins).values()
    new = ancestors(scope.instance, scope.pins).values()
    versions = {each.name: each.sha256 for each in old}
    differing = [each for each in new if versions.get(each.name) != each.sha256]
    named = {each.name for each in differing}
    snapshots = sorted(_snapshot(pin) for pin in joint if pin.name in named)
    withdrawn = {each.partition for each in old if each.asset == "tokenized_corpus"} - {
        each.partition for each in new if each.asset == "tokenized_corpus"
    }
    words = [f"snapshot {name} is new" for name in snapshots if asset_name("tokenized_corpus", name) not in versions]
    words += [f"snapshot {name} is gone" for name in sorted(map(str, withdrawn))]
    words += _setting_changes(scope, event)
    first = [each for each in differing if each.name in versions and not named & {pin.name for pin in each.pins}]
    words += sorted({each.asset for each in first if each.asset != "grouped_shards"})[:SHOWN_CHANGES]
    return snapshots, words


def _setting_changes(scope: Scope, event: Event) -> list[str]:
    """`mixtures.demo.top_share 0.5 → 0.25`, one for every option of the mixture and its recipe that differs."""
    now = settings_in_force(scope.asset, scope.partition_key, scope.settings)
    return [
        f"{section}.{option} {before[option]} → {value}"
        for section, values in now.items()
        if isinstance(before := (event.settings or {}).get(section), dict) and isinstance(values, dict)
        for option, value in values.items()
        if option in before and before[option] != value
    ]
