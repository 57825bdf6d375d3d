"""Which scores are missing or stale, and what it would cost to make them: an offer, never an order."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg

from automixer_assets.assets.influence import scores_slice
from automixer_assets.errors import AutomixerError
from automixer_assets.lake_asset import LakeAsset, by_name, input_digest, planned
from automixer_assets.lineage import latest, upstream
from automixer_assets.partitions import checkpoints_of, multi_key
from automixer_assets.plan_sizes import Given, constants_path, measure
from automixer_assets.planning.constants import load_constants
from automixer_assets.planning.stages import Stages
from automixer_assets.resources import Automixer

RATE_SAMPLE = 20
"""Past scorings whose speed is looked at."""


@dataclass(frozen=True)
class StaleScores:
    """What is not current of one proxy's scores.

    `seconds` is by the speed of past scorings, else by what `automixer calibrate` measured (`calibrated`), else None.
    """

    proxy: str
    stale: list[str]
    missing: list[str]
    current: int
    tokens: int
    not_tokenized: list[str]
    seconds: float | None
    calibrated: bool = False

    @property
    def cells(self) -> list[str]:
        return [*self.stale, *self.missing]

    @property
    def sentence(self) -> str:
        """What to know before asking for the scores."""
        if not self.cells:
            return f"all {self.current} scores of {self.proxy} are current"
        unscored = "unknown, as nothing was scored yet: run `automixer calibrate`"
        time = unscored if self.seconds is None else f"about {_duration(self.seconds)}"
        time += " by calibration" if self.calibrated else ""
        unknown = f" and {', '.join(self.not_tokenized)}, not tokenised yet" if self.not_tokenized else ""
        return (
            f"{len(self.stale)} scores of {self.proxy} are stale and {len(self.missing)} missing, {self.current} are "
            f"current; to make them reads {self.tokens:,} tokens{unknown} (time: {time})"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find_stale_scores(
    instance: dg.DagsterInstance, automixer: Automixer, assets: Sequence[LakeAsset]
) -> Iterator[StaleScores]:
    """One finding per proxy, over its selected checkpoints and the registered snapshots."""
    snapshots = sorted(instance.get_dynamic_partitions("snapshot"))
    tokens = {snapshot: _tokens(instance, snapshot) for snapshot in snapshots}
    items, settings = by_name(assets), automixer.settings()
    made_with = scores_slice(settings)
    for proxy in settings.proxies:
        query, scores = items[f"{proxy}/influence_query"], items[f"{proxy}/checkpoint_influence"]
        stale: list[str] = []
        missing: list[str] = []
        n_tokens = current = 0
        for checkpoint in sorted(instance.get_dynamic_partitions(str(checkpoints_of(proxy).name))):
            versions = _versions(instance, automixer, proxy, query, checkpoint)
            for snapshot in snapshots:
                cell = multi_key(checkpoint=checkpoint, snapshot=snapshot)
                if versions is not None and _is_made(instance, automixer, scores, cell, versions, made_with):
                    current += 1
                    continue
                (missing if latest(instance, scores.asset, cell) is None else stale).append(cell)
                n_tokens += tokens[snapshot] or 0
        unknown = [snapshot for snapshot in snapshots if tokens[snapshot] is None]
        rate = _tokens_per_second(instance, scores)
        cells = [*stale, *missing]
        seconds = _planned_seconds(instance, automixer, proxy, cells) if rate is None else n_tokens / rate
        calibrated = rate is None and seconds is not None
        yield StaleScores(proxy, stale, missing, current, n_tokens, unknown if cells else [], seconds, calibrated)


def _versions(
    instance: dg.DagsterInstance, automixer: Automixer, proxy: str, query: LakeAsset, checkpoint: str
) -> dict[str, str] | None:
    """Data versions that the checkpoint's scores would be made from; None where its query has to be fitted first."""
    build = planned(query.asset, query.code, query.plan, checkpoint, automixer, instance)
    fitted = None if isinstance(build, AutomixerError) else automixer.lake().find(query.kind, build.digest)
    weights = latest(instance, f"{proxy}/proxy_checkpoints", checkpoint)
    if fitted is None or weights is None:
        return None
    return {query.asset: fitted.content, f"{proxy}/proxy_checkpoints": weights.pin.data_version}


def _is_made(
    instance: dg.DagsterInstance,
    automixer: Automixer,
    scores: LakeAsset,
    cell: str,
    versions: dict[str, str],
    made_with: object,
) -> bool:
    """True when scoring would find its result in the lake. That the proxy has a new run is no reason to score again
    where it left the same weights."""
    found = latest(instance, scores.asset, cell)
    _, _, snapshot = cell.partition("|")
    corpus = latest(instance, "tokenized_corpus", snapshot)
    if found is None or found.failed_checks or corpus is None:
        return False
    versions = {**versions, "tokenized_corpus": corpus.pin.data_version}
    inputs = [[pin.asset, pin.partition, versions.get(pin.asset)] for pin in upstream(instance, found.pin)]
    digest = input_digest(scores.asset, scores.code, made_with, inputs)
    return automixer.lake().find(scores.kind, digest) is not None


def _tokens(instance: dg.DagsterInstance, snapshot: str) -> int | None:
    return _number(
        instance, dg.AssetRecordsFilter(dg.AssetKey("tokenized_corpus"), asset_partitions=[snapshot]), "tokens"
    )


def _number(instance: dg.DagsterInstance, wanted: dg.AssetRecordsFilter, name: str) -> int | None:
    for record in instance.fetch_materializations(wanted, limit=1).records:
        materialization = record.asset_materialization
        if materialization is not None and name in materialization.metadata:
            return int(str(materialization.metadata[name].value))
    return None


def _tokens_per_second(instance: dg.DagsterInstance, scores: LakeAsset) -> float | None:
    """Median over the proxy's newest scorings."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey.from_user_string(scores.asset))
    found = [
        float(str(record.asset_materialization.metadata["tokens per second"].value))
        for record in instance.fetch_materializations(wanted, limit=RATE_SAMPLE).records
        if record.asset_materialization and "tokens per second" in record.asset_materialization.metadata
    ]
    return statistics.median(found) if found and statistics.median(found) > 0 else None


def _planned_seconds(
    instance: dg.DagsterInstance, automixer: Automixer, proxy: str, cells: Sequence[str]
) -> float | None:
    """What the plan says of these cells; None where nothing was calibrated, or a size is not known."""
    if not constants_path().is_file():
        return None
    try:
        constants, workload = load_constants(constants_path()), measure(instance, automixer, Given())
    except AutomixerError:
        return None
    trained = workload.trained().get(proxy)
    if trained is None:
        return None
    sizes = {size.name: size for size in workload.snapshots}
    stages, pairs = Stages(workload, constants), [cell.partition("|") for cell in cells]
    return sum(
        stages.scores(proxy, trained, checkpoint, sizes[snapshot]).cost.seconds
        for checkpoint, _, snapshot in pairs
        if snapshot in sizes
    )


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
