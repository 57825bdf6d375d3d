"""From a plan to a Dagster asset.

An asset function of this project is cheap: it pins what it reads and returns a `Build`, the work to be done. Only if
the digest of those inputs is new does `Build.write` run, filling a folder of the lake. So asking whether an asset is
current costs milliseconds, and a killed pass, a repeated run and the command line all go through the same code.
"""

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from automixer_assets import __version__
from automixer_assets import progress as progress_module
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact, Lake, Written, digest_of
from automixer_assets.lineage import (
    Materialized,
    Pin,
    ancestry,
    asset_name,
    latest,
    pins_json,
    require_consistent,
    resolve_pin,
    upstream,
)
from automixer_assets.out_of_memory import MEMORY_REMEDY, first_line, is_out_of_memory
from automixer_assets.pages.pins import pins_table
from automixer_assets.partitions import require_valid_key
from automixer_assets.resources import Automixer
from automixer_assets.run_processes import hold_slot
from automixer_assets.settings import Settings
from automixer_assets.settings_in_force import settings_in_force
from automixer_assets.version import git_commit

Metadata = dict[str, Any]
UNCHECKED = object()
RETRIES, RETRY_SECONDS = 2, 10
"""For what holds an accelerator: a lost device or a broken driver may pass, and finished shards are not done again.
What a user must mend is never tried again. Asked for below and not by a RetryPolicy: that takes a cancelled run for a
failed one, and starts it anew."""
Log = Callable[[str], None]
Observe = Callable[[Metadata], None]


@dataclass(frozen=True)
class CheckOutcome:
    """What a blocking check found; `metadata` says by how much."""

    passed: bool
    description: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A blocking check of a published artefact."""

    name: str
    description: str
    run: Callable[[Artifact], CheckOutcome]


@dataclass(frozen=True)
class Comparison:
    """A check of a published artefact against earlier ones. It warns and stops nothing."""

    name: str
    description: str
    run: Callable[["Scope", Artifact], CheckOutcome]

    def outcome(self, scope: "Scope", artifact: Artifact) -> CheckOutcome:
        """What it found; where what it compares with is gone, a warning that says so."""
        try:
            return self.run(scope, artifact)
        except AutomixerError as error:
            return CheckOutcome(False, str(error))


@dataclass(frozen=True)
class Build:
    """The work of one materialisation: what it read, and how to write and show the result."""

    digest: str
    settings: Any
    pins: list[Pin]
    write: Callable[[Path], Written | None]
    show: Callable[[Artifact], Metadata]
    resumable: bool = False
    after: Callable[[Artifact], None] | None = None


class Scope:
    """What an asset function may use: settings, lake, its own partition, and pins of what it reads.

    `made_with` is the digest of the slice of the settings that it was built under, once it is.
    """

    def __init__(
        self,
        asset: str,
        code: str,
        partition: str | None,
        automixer: Automixer,
        instance: dg.DagsterInstance,
        log: Log,
        observe: Observe = lambda metadata: None,
    ) -> None:
        self.asset, self.code, self.partition_key = asset, code, partition
        self.automixer, self.instance, self.log, self.observe = automixer, instance, log, observe
        self.settings: Settings = automixer.settings()
        self.lake: Lake = automixer.lake()
        self.pins: list[Pin] = []
        self.made_with: str | None = None

    @property
    def name(self) -> str:
        return asset_name(self.asset, self.partition_key)

    @property
    def key(self) -> str:
        """The key of an asset with one partition dimension."""
        key = self._chosen_partition()
        require_valid_key(key)
        return key

    @property
    def keys(self) -> tuple[str, str]:
        """Both keys of a two-dimensional partition, in alphabetical order of dimension name."""
        first, _, second = self._chosen_partition().partition("|")
        require_valid_key(first)
        require_valid_key(second)
        return first, second

    def _chosen_partition(self) -> str:
        if self.partition_key is None:
            raise AutomixerError(f"{self.asset} is partitioned: choose a partition (`--partition KEY`)")
        return self.partition_key

    def pin(self, asset: str, partition: str | None = None, *, settings: Any = UNCHECKED) -> Artifact:
        """Record and open the latest materialisation of an upstream asset.

        With `settings`, one that was made from another slice of the settings is refused: what is built on it would
        claim options that its data do not have.
        """
        pin, made_with = resolve_pin(self.instance, asset, partition, self.name)
        if settings is not UNCHECKED and made_with != digest_of(settings):
            raise AutomixerError(
                f"{self.name} needs {pin.name}, which was made with other settings than are in force now: "
                f"materialise it first (`automixer materialize '+{asset}'`)"
            )
        if pin not in self.pins:
            self.pins.append(pin)
        return self.lake.open(pin.uri)

    def build(
        self,
        write: Callable[[Path], Written | None],
        show: Callable[[Artifact], Metadata],
        *,
        settings: Any = None,
        resumable: bool = False,
        after: Callable[[Artifact], None] | None = None,
    ) -> Build:
        """The work to be done; its digest covers the pins, the given slice of settings and the code version."""
        require_consistent(self.instance, self.pins, self.name)
        self.made_with = digest_of(settings)
        inputs = [[pin.asset, pin.partition, pin.data_version] for pin in self.pins]
        digest = input_digest(self.asset, self.code, settings, inputs)
        return Build(digest, settings, list(self.pins), write, show, resumable, after)

    def progress(self, total: float, unit: str) -> AbstractContextManager[progress_module.Progress]:
        return progress_module.progress(self.name, total, unit, self.log)


Plan = Callable[[Scope], Build]


def input_digest(asset: str, code: str, settings: Any, inputs: Sequence[Sequence[str | None]]) -> str:
    """Names an artefact; `inputs` are (asset, partition, data version) in the order in which they were pinned."""
    return digest_of({"asset": asset, "code": code, "settings": settings, "inputs": inputs})


@dataclass(frozen=True)
class LakeAsset:
    """An asset function with what Dagster needs to know about it."""

    asset: str
    code: str
    plan: Plan
    definition: dg.AssetsDefinition
    partitions_def: dg.PartitionsDefinition | None
    pool: str | None = None

    @property
    def kind(self) -> str:
        return lake_kind(self.asset)

    def is_current(self, partition: str | None, automixer: Automixer, instance: dg.DagsterInstance) -> bool:
        """True when the latest materialisation was made from exactly the inputs that would be read now.

        And by way of the same versions: an input that came out the same from a newer source needs a new event here, or
        `require_consistent` would find two versions of that source further down. That costs a lookup, no work.
        """
        found: Materialized | None = latest(instance, self.asset, partition)
        if found is None or found.failed_checks:
            return False
        build = planned(self.asset, self.code, self.plan, partition, automixer, instance)
        if isinstance(build, AutomixerError):
            return False  # an input is missing: running the asset will say which
        artifact = automixer.lake().find(self.kind, build.digest)
        if artifact is None or artifact.uri != found.pin.uri:
            return False
        return ancestry(instance, upstream(instance, found.pin)) == ancestry(instance, build.pins)


def planned(
    asset: str, code: str, plan: Plan, partition: str | None, automixer: Automixer, instance: dg.DagsterInstance
) -> Build | AutomixerError:
    """What would be made now, or the reason why it cannot be."""
    try:
        return plan(Scope(asset, code, partition, automixer, instance, lambda line: None))
    except AutomixerError as error:
        return error


def lake_asset(
    *,
    asset: str,
    group: str,
    kinds: set[str],
    code: str,
    plan: Plan,
    partitions_def: dg.PartitionsDefinition | None = None,
    deps: Sequence[dg.AssetDep | str] = (),
    checks: Sequence[Check] = (),
    comparisons: Sequence[Comparison] = (),
    pool: str | None = None,
    automation_condition: dg.AutomationCondition | None = None,
) -> LakeAsset:
    """Define an asset from its plan. The plan's docstring opens with the one question that the asset's page answers."""
    key = dg.AssetKey.from_user_string(asset)
    upstream = [dg.AssetDep(dg.AssetKey.from_user_string(dep)) if isinstance(dep, str) else dep for dep in deps]

    @dg.asset(
        key=key,
        group_name=group,
        kinds=kinds,
        code_version=code,
        description=inspect.getdoc(plan),
        partitions_def=partitions_def,
        deps=upstream,
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=isinstance(check, Check))
            for check in (*checks, *comparisons)
        ],
        pool=pool,
        automation_condition=automation_condition,
    )
    def definition(context: dg.AssetExecutionContext, automixer: Automixer) -> dg.MaterializeResult:
        partition = context.partition_key if context.has_partition_key else None

        def observe(metadata: Metadata) -> None:
            """Numbers of work under way, for the asset's page."""
            context.log_event(dg.AssetObservation(key, partition=partition, metadata=metadata))

        if pool is not None:
            hold_slot(context.instance, pool, context.run_id, context.get_step_execution_context().step.key)
        try:
            scope = Scope(asset, code, partition, automixer, context.instance, context.log.info, observe)
            with scope.lake.in_use():
                return _materialize(scope, plan, checks, comparisons)
        except AutomixerError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        except Exception as error:
            if is_out_of_memory(error):
                said = f"{asset_name(asset, partition)} ran out of memory ({first_line(error)}): {MEMORY_REMEDY}"
                raise dg.Failure(description=said, allow_retries=False) from error
            if pool is not None and context.retry_number < RETRIES:
                raise dg.RetryRequested(RETRIES, RETRY_SECONDS * 2**context.retry_number) from error
            raise

    return LakeAsset(asset, code, plan, definition, partitions_def, pool)


def lake_kind(asset: str) -> str:
    """The lake folder of an asset: its name without the proxy's prefix."""
    return asset.rsplit("/", maxsplit=1)[-1]


def _materialize(
    scope: Scope, plan: Plan, checks: Sequence[Check], comparisons: Sequence[Comparison]
) -> dg.MaterializeResult:
    started = time.monotonic()
    build = plan(scope)
    planned = time.monotonic()
    reused = scope.lake.find(lake_kind(scope.asset), build.digest) is not None
    artifact = scope.lake.publish(lake_kind(scope.asset), build.digest, build.write, resumable=build.resumable)
    if build.after is not None:
        build.after(artifact)
    outcomes = {check.name: check.run(artifact) for check in checks}
    compared = {comparison.name: comparison.outcome(scope, artifact) for comparison in comparisons}
    shown = build.show(artifact)
    scope.log(
        f"{scope.name}: {'found in' if reused else 'written to'} {artifact.uri}, {artifact.seconds:.1f} s of work"
    )
    return dg.MaterializeResult(
        metadata={
            **shown,
            "made from": pins_table(scope.instance, build.pins),
            "seconds": {"plan": round(planned - started, 3), "write": artifact.seconds, "reused": reused},
            "uri": artifact.uri,
            "folder": dg.MetadataValue.path(scope.lake.location(artifact.uri)),
            "sha256": artifact.content,
            "pins": dg.MetadataValue.json(pins_json(build.pins)),
            "settings": dg.MetadataValue.json({"slice": build.settings}),
            "settings digest": digest_of(build.settings),
            "settings in force": dg.MetadataValue.json(
                settings_in_force(scope.asset, scope.partition_key, scope.settings)
            ),
            "program": dg.MetadataValue.json({"version": __version__, "git_commit": git_commit()}),
            "failed_checks": json.dumps([name for name, outcome in outcomes.items() if not outcome.passed]),
        },
        data_version=dg.DataVersion(artifact.content),
        check_results=[
            *(_check_result(name, outcome, dg.AssetCheckSeverity.ERROR) for name, outcome in outcomes.items()),
            *(_check_result(name, outcome, dg.AssetCheckSeverity.WARN) for name, outcome in compared.items()),
        ],
    )


def _check_result(name: str, outcome: CheckOutcome, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        check_name=name,
        description=outcome.description,
        metadata=outcome.metadata,
        severity=severity,
    )


def by_name(assets: Sequence[LakeAsset]) -> Mapping[str, LakeAsset]:
    return {item.asset: item for item in assets}
