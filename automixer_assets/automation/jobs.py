"""Jobs: what sensors and schedules ask for, and what a person backfills by hand. One partitions definition each."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import dagster as dg

from automixer_assets.partitions import MIXTURES, SNAPSHOTS, checkpoint_by_snapshot, checkpoints_of
from automixer_assets.settings import Settings

Job: TypeAlias = Any
"""What `define_asset_job` returns; Dagster exports no name for it."""
CORPUS_JOB = "snapshot_corpus"
MIXTURE_JOB = "rebuild_mixture"
CORPUS_ASSETS = ("snapshot_inventory", "tokenized_corpus", "leakage", "removed_documents")
MIXTURE_ASSETS = ("grouped_shards", "weight_manifest", "group_characteristics")


def asset_jobs(settings: Settings) -> list[Job]:
    """A snapshot's corpus, a mixture, and per proxy its queries and its scores."""
    return [
        dg.define_asset_job(
            CORPUS_JOB,
            selection=list(CORPUS_ASSETS),
            partitions_def=SNAPSHOTS,
            description="Inventory and tokenise a snapshot, and look for leaked and removed documents. No accelerator.",
        ),
        dg.define_asset_job(
            MIXTURE_JOB,
            selection=list(MIXTURE_ASSETS),
            partitions_def=MIXTURES,
            description="A new version of a mixture from the joint influence as it is now. No accelerator.",
        ),
        *(job for proxy in settings.proxies for job in _proxy_jobs(proxy)),
    ]


def _proxy_jobs(proxy: str) -> list[Job]:
    return [
        dg.define_asset_job(
            queries_job(proxy),
            selection=[f"{proxy}/proxy_checkpoints", f"{proxy}/influence_query"],
            partitions_def=checkpoints_of(proxy),
            description=f"Fit the queries of {proxy}'s selected checkpoints: before its scores, where they changed. "
            "Uses the accelerator.",
        ),
        dg.define_asset_job(
            scores_job(proxy),
            selection=[f"{proxy}/checkpoint_influence"],
            partitions_def=checkpoint_by_snapshot(proxy),
            description=f"Score snapshots at {proxy}'s selected checkpoints. Uses the accelerator: the newest "
            f"observation of {proxy}/checkpoint_influence, or `automixer snapshot stale`, says which cells are stale, "
            "with their tokens and time. A backfill over all partitions looks current ones up and scores the rest.",
        ),
    ]


def queries_job(proxy: str) -> str:
    return f"{_identifier(proxy)}_queries"


def scores_job(proxy: str) -> str:
    return f"{_identifier(proxy)}_scores"


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)
