"""Regrouping: per group keep the top share of documents by its own utility, over all snapshots (paper, section 4).

The share is exact: ceil(top_share * n) documents, ties by doc_id and then snapshot. Two passes: the first finds each
group's last kept document by an external sort, the second writes selection files shard by shard.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import UTILITY_PREFIX, GroupSummary
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.sql import Database, open_database

SELECTION_COLUMNS = ("row", "doc_id", "n_tokens", "utility", "joint_utility")
SORT_THREADS = 2
Cut = dict[str, Any]
"""A row of group_cut.sql, passed on to selected_documents.sql as it is."""


@dataclass(frozen=True)
class JointShard:
    """One joint_influence shard."""

    snapshot: str
    shard: str
    path: Path


def regroup(*, joint: Sequence[JointShard], top_share: float, out: Path) -> None:
    """Write `groups/`, `groups.parquet` and `overlap.parquet` of grouped_shards into the folder `out`.

    Raises:
        AutomixerError: no documents, shards of different recipes, or a utility that is null or not finite.
    """
    shards = sorted(joint, key=lambda shard: (shard.snapshot, shard.shard))
    groups = _common_groups(shards)
    parameters = _shard_parameters(shards)
    with open_database(threads=SORT_THREADS) as database:
        _require_usable(database, parameters["files"])
        totals = database.table("candidate_totals", {"files": parameters["files"]}).to_pylist()[0]
        keep = kept_documents(totals["n_candidates"], top_share)
        cuts = [
            database.table("group_cut", {**parameters, "group": group, "keep": keep}).to_pylist()[0] for group in groups
        ]
    shared, shared_tokens = _write_selections(shards, cuts, out)
    summaries = [
        GroupSummary(group, cut["utility"], shared[group, group], shared_tokens[group, group], **totals)
        for group, cut in zip(groups, cuts, strict=True)
    ]
    write_table(_groups_table(summaries), out / "groups.parquet")
    write_table(_overlap_table(groups, shared), out / "overlap.parquet")


def kept_documents(n_candidates: int, top_share: float) -> int:
    """ceil(top_share * n), in the decimal that the user wrote: 0.1 of 30 is 3, not 4."""
    if not 0 < top_share <= 1:
        raise AutomixerError(f"top_share {top_share} is not in (0, 1]; correct the mixture's `top_share`")
    if n_candidates == 0:
        raise AutomixerError("the mixture's snapshots hold no documents to group; add a snapshot or relax the filter")
    return math.ceil(Fraction(str(top_share)) * n_candidates)


def _write_selections(shards: Sequence[JointShard], cuts: list[Cut], out: Path) -> tuple[Counter, Counter]:
    """Write every selection file; returns documents and tokens per ordered pair of groups."""
    shared: Counter[tuple[str, str]] = Counter()
    shared_tokens: Counter[tuple[str, str]] = Counter()
    with open_database() as database:
        for shard in shards:
            place = {"file": str(shard.path), "snapshot": shard.snapshot, "shard": shard.shard}
            selected = database.table("selected_documents", {**place, "cuts": cuts})
            for cut in cuts:
                rows = selected.filter(pc.field("group") == cut["group"]).select(list(SELECTION_COLUMNS))
                write_table(rows, out / "groups" / cut["group"] / shard.snapshot / f"{shard.shard}.parquet")
            for pair in database.table("group_overlap", {}, selected=selected).to_pylist():
                shared[pair["group"], pair["other"]] += pair["n_documents"]
                shared_tokens[pair["group"], pair["other"]] += pair["n_tokens"]
    return shared, shared_tokens


def _common_groups(shards: Sequence[JointShard]) -> list[str]:
    """Groups of the joint tables, in column order; all shards must agree."""
    if not shards:
        raise AutomixerError("the mixture has no joint_influence shards; materialise joint_influence for its snapshots")
    expected: list[str] | None = None
    for shard in shards:
        names = [name for name in pq.read_schema(shard.path).names if name.startswith(UTILITY_PREFIX)]
        expected = names if expected is None else expected
        if names != expected or not names:
            raise AutomixerError(
                f"{shard.path} has the utility columns {names} where {shards[0].path} has {expected}; "
                "materialise joint_influence again for all snapshots of the mixture"
            )
    return [name.removeprefix(UTILITY_PREFIX) for name in expected or []]


def _require_usable(database: Database, files: list[str]) -> None:
    for bad in database.table("unusable_utilities", {"files": files}).to_pylist():
        raise AutomixerError(
            f"{bad['file']} has a null or NaN {bad['column_name']} for document {bad['doc_id']!r} (row {bad['row']}); "
            "materialise joint_influence again"
        )


def _shard_parameters(shards: Sequence[JointShard]) -> dict[str, Any]:
    places = [{"file": str(shard.path), "snapshot": shard.snapshot, "shard": shard.shard} for shard in shards]
    return {"files": [place["file"] for place in places], "shards": places}


def _groups_table(summaries: Sequence[GroupSummary]) -> pa.Table:
    fields = ("threshold", "n_documents", "n_tokens", "n_candidates", "candidate_tokens")
    names = pa.array([summary.name for summary in summaries], pa.string())
    return pa.table({"group": names} | {field: [getattr(summary, field) for summary in summaries] for field in fields})


def _overlap_table(groups: Sequence[str], shared: Counter[tuple[str, str]]) -> pa.Table:
    """Every ordered pair of two different groups, pairs without a common document too."""
    pairs = [(group, other) for group in groups for other in groups if group != other]
    return pa.table(
        {
            "group": pa.array([group for group, _ in pairs], pa.string()),
            "other": pa.array([other for _, other in pairs], pa.string()),
            "n_documents": pa.array([shared[pair] for pair in pairs], pa.int64()),
            "share": pa.array([shared[pair] / shared[pair[0], pair[0]] for pair in pairs], pa.float64()),
        }
    )
