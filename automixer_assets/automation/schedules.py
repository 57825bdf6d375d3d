"""Schedules: a nightly look at known snapshots, a weekly look at mixtures. Both ask only for what is not current."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg

from automixer_assets.automation.content import what_changed
from automixer_assets.automation.jobs import CORPUS_ASSETS, CORPUS_JOB, MIXTURE_ASSETS, MIXTURE_JOB
from automixer_assets.automation.said import say
from automixer_assets.corpus.sources import MARKER
from automixer_assets.errors import AutomixerError
from automixer_assets.lake_asset import LakeAsset, by_name, planned
from automixer_assets.partitions import MIXTURES, register
from automixer_assets.resources import Automixer
from automixer_assets.settings import Settings

Asked = Iterator[dg.RunRequest | str]
"""Requests, and sentences about what is not asked for."""


def reinventory_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Known snapshots whose files changed are inventoried and tokenised again; the snapshot sensor then scores them."""

    @dg.schedule(
        name="reinventory",
        job_name=CORPUS_JOB,
        cron_schedule=settings.automation.reinventory,
        execution_timezone=settings.automation.timezone,
        description="Inventories known snapshots whose files changed. What lost files is said, not read again.",
    )
    def reinventory(context: dg.ScheduleEvaluationContext, automixer: Automixer) -> list[dg.RunRequest] | dg.SkipReason:
        return _result(context, changed_snapshots(context.instance, automixer.frozen()))

    return reinventory


def changed_snapshots(instance: dg.DagsterInstance, automixer: Automixer) -> Asked:
    """A corpus run per known snapshot whose listing is no longer the inventoried one, but for those that lost files."""
    sources, arrival = automixer.sources(), automixer.settings().corpus.arrival
    removal = automixer.settings().corpus.removal_list is not None
    for snapshot in sorted(instance.get_dynamic_partitions("snapshot")):
        try:
            files = sources.list_files(snapshot)
            changed, loss = what_changed(instance, automixer, sources, snapshot, files)
        except AutomixerError as error:
            say(instance, snapshot, str(error))
            yield str(error)
            continue
        if changed and loss is None and arrival.complete == "marker" and not sources.has_marker(snapshot):
            yield f"{sources.location(snapshot)} changed and has no {MARKER}: it may still be written"
        elif changed and loss is None:
            selection = [dg.AssetKey(name) for name in CORPUS_ASSETS if removal or name != "removed_documents"]
            yield dg.RunRequest(partition_key=snapshot, asset_selection=selection)
        elif loss is not None:
            sentence = (
                f"{loss}: mixtures go on with what was read before; if that is meant, read it again "
                f"(`automixer materialize snapshot_inventory+ --partition {snapshot}`), else restore it"
            )
            say(instance, snapshot, sentence)
            yield sentence


def mixture_schedule(settings: Settings, assets: Sequence[LakeAsset]) -> dg.ScheduleDefinition:
    """Mixtures of the settings that are not current get a new version."""

    @dg.schedule(
        name="rebuild_mixtures",
        job_name=MIXTURE_JOB,
        cron_schedule=settings.automation.rebuild_mixtures,
        execution_timezone=settings.automation.timezone,
        description="Makes a new version of each mixture whose inputs or settings changed. No accelerator.",
    )
    def rebuild_mixtures(
        context: dg.ScheduleEvaluationContext, automixer: Automixer
    ) -> list[dg.RunRequest] | dg.SkipReason:
        return _result(context, outdated_mixtures(context.instance, automixer.frozen(), assets))

    return rebuild_mixtures


def outdated_mixtures(instance: dg.DagsterInstance, automixer: Automixer, assets: Sequence[LakeAsset]) -> Asked:
    """A run per mixture that is not current and whose inputs are all there."""
    chain = [by_name(assets)[name] for name in MIXTURE_ASSETS]
    mixtures = sorted(automixer.settings().mixtures)
    register(instance, MIXTURES, mixtures)
    for mixture in mixtures:
        if all(item.is_current(mixture, automixer, instance) for item in chain):
            continue
        groups = planned(chain[0].asset, chain[0].code, chain[0].plan, mixture, automixer, instance)
        if isinstance(groups, AutomixerError):
            yield f"mixture {mixture} is not rebuilt: {groups}"
            continue
        yield dg.RunRequest(partition_key=mixture, tags={"automixer/mixture": mixture})


def _result(context: dg.ScheduleEvaluationContext, asked: Asked) -> list[dg.RunRequest] | dg.SkipReason:
    """What a schedule returns; the run key is the tick's, so that a tick that is repeated asks for nothing twice."""
    requests, sentences = [], []
    for each in asked:
        if isinstance(each, dg.RunRequest):
            requests.append(
                each.with_replaced_attrs(run_key=f"{each.partition_key} {context.scheduled_execution_time}")
            )
        else:
            sentences.append(each)
    for sentence in sentences:
        context.log.info(sentence)
    return requests or dg.SkipReason("; ".join(sentences) or "everything is current")
