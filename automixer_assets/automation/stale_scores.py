"""Says on the scores' page which of them are stale or missing, with the tokens and the time to make them.

A new proxy run, other items or another tokenizer make old scores stale. Scoring them again costs an accelerator, so it
is offered: the sentence names the jobs to backfill and the command, and nothing starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from automixer_assets.automation.content import latest_ids
from automixer_assets.automation.jobs import queries_job, scores_job
from automixer_assets.lake import digest_of
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.partitions import checkpoints_of
from automixer_assets.resources import Automixer
from automixer_assets.settings import Settings
from automixer_assets.stale_scores import StaleScores, find_stale_scores

STALE_SCORE_SENSOR = "stale_scores"
INTERVAL_SECONDS = 300


def stale_score_sensor(assets: Sequence[LakeAsset]) -> dg.SensorDefinition:
    """Looks again only when a checkpoint, a query or a tokenised snapshot has a new materialisation."""

    @dg.sensor(
        name=STALE_SCORE_SENSOR,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Says on the page of each checkpoint_influence which scores are stale or missing and what scoring "
        "them would cost. Starts nothing.",
    )
    def stale_scores(context: dg.SensorEvaluationContext, automixer: Automixer) -> dg.SensorResult:
        automixer = automixer.frozen()
        seen = _inputs(context.instance, automixer.settings())
        if context.cursor == seen:
            return dg.SensorResult(skip_reason="nothing was materialised that scores are made from", cursor=seen)
        found = list(find_stale_scores(context.instance, automixer, assets))
        return dg.SensorResult(
            asset_events=[_observation(finding) for finding in found],
            skip_reason="; ".join(finding.sentence for finding in found) or "no proxy",
            cursor=seen,
        )

    return stale_scores


def _inputs(instance: dg.DagsterInstance, settings: Settings) -> str:
    """Digest over the newest event of everything that scores are made from, and of the scores."""
    ids: list[object] = [latest_ids(instance, "tokenized_corpus")]
    for proxy in settings.proxies:
        ids.append(sorted(instance.get_dynamic_partitions(str(checkpoints_of(proxy).name))))
        for name in ("proxy_checkpoints", "influence_query", "checkpoint_influence"):
            ids.append(latest_ids(instance, f"{proxy}/{name}"))
    return digest_of(ids)


def _observation(finding: StaleScores) -> dg.AssetObservation:
    key = dg.AssetKey([finding.proxy, "checkpoint_influence"])
    how = (
        f"backfill the jobs {queries_job(finding.proxy)}, then {scores_job(finding.proxy)}; or run "
        f"`automixer materialize '+{finding.proxy}/checkpoint_influence'`"
    )
    return dg.AssetObservation(
        key,
        description=finding.sentence,
        metadata={
            "stale scores": len(finding.stale),
            "missing scores": len(finding.missing),
            "current scores": finding.current,
            "tokens to read": finding.tokens,
            "estimated seconds": dg.MetadataValue.null() if finding.seconds is None else round(finding.seconds, 1),
            "first stale": ", ".join(finding.stale[:5]),
            "how to make them": how if finding.cells else "nothing to do",
        },
    )
