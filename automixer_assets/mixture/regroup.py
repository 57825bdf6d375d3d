"""Regrouping: per group keep the top share of documents by its own utility, over all snapshots (paper, section 4).

The share is exact: ceil(top_share * n) documents, ties by doc_id and then snapshot. First each group's threshold over
the union (`thresholds`), then shard by shard the selection files and the sums that everything after needs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import (
    MEMBERSHIPS,
    UTILITY_PREFIX,
    GroupSummary,
    has_partial_groups,
    utility_column,
)
from automixer_assets.mixture.joint import QUERIES
from automixer_assets.mixture.parquet import ROWS_PER_GROUP, read_columns, table_writer, write_table
from automixer_assets.mixture.passes import JointShard, Passes, PassesOver, Question, Tie, in_order, passes_here
from automixer_assets.mixture.sql import open_database
from automixer_assets.mixture.subsample import SCALE_FILE, write_rank_scale
from automixer_assets.mixture.thresholds import Rank, raise_unusable, utilities_at_ranks

KEPT_PREFIX = "kept__"


@dataclass(frozen=True)
class Cut:
    """The last document that a group keeps: all above the threshold stay, and of those tied at it the ones up to it.

    Without a document, all tied ones stay.
    """

    group: str
    threshold: float
    doc_id: str | None = None
    snapshot: str | None = None
    shard: str | None = None
    row: int | None = None


def regroup(*, joint: Sequence[JointShard], top_share: float, out: Path, passes_over: PassesOver = passes_here) -> None:
    """Write `groups/` and the tables of groups, memberships, overlap and the rank scale into the folder `out`.

    How `passes_over` divides the shards, and where it reads them, changes no byte.

    Raises:
        AutomixerError: no documents, shards of different recipes or queries, or a utility that is null or not finite.
    """
    shards = in_order(joint)
    groups = common_groups(shards)
    passes = passes_over(shards)
    totals = group_candidates(passes, groups)
    keep = {group: kept_documents(totals[group]["n_candidates"], top_share) for group in groups}
    cuts = find_cuts(passes, keep, {group: totals[group]["n_candidates"] for group in groups})
    memberships = passes.each(partial(write_selections, cuts=cuts, out=out))
    write_table(pa.concat_tables(memberships), out / MEMBERSHIPS)
    with open_database() as database:
        overlaps = database.table("group_overlap", {"file": str(out / MEMBERSHIPS)}).to_pylist()
    shared = {(row["group"], row["other"]): row for row in overlaps}
    summaries = [
        GroupSummary(cut.group, cut.threshold, own["n_documents"], own["n_tokens"], **totals[cut.group])
        for cut in cuts
        for own in [shared[cut.group, cut.group]]
    ]
    write_table(_groups_table(summaries), out / "groups.parquet")
    write_table(_overlap_table(groups, shared), out / "overlap.parquet")
    write_rank_scale(_first_snapshot(shards), out / SCALE_FILE)


def _first_snapshot(shards: Sequence[JointShard]) -> list[Path]:
    """Shards of the first snapshot, by name, that has documents: a scale that later snapshots do not move."""
    filled = [shard for shard in shards if pq.read_metadata(shard.path).num_rows]
    return [shard.path for shard in filled if shard.snapshot == filled[0].snapshot]


def kept_documents(n_candidates: int, top_share: float) -> int:
    """ceil(top_share * n), in the decimal that the user wrote: 0.1 of 30 is 3, not 4."""
    if not 0 < top_share <= 1:
        raise AutomixerError(f"top_share {top_share} is not in (0, 1]; correct the mixture's `top_share`")
    if n_candidates == 0:
        raise AutomixerError("the mixture's snapshots hold no documents to group; add a snapshot or relax the filter")
    return math.ceil(Fraction(str(top_share)) * n_candidates)


def candidate_totals(passes: Passes) -> dict[str, int]:
    """n_candidates and candidate_tokens over all shards, whose joint utilities must be numbers."""
    (totals,) = _sums(passes, [Question("candidate_totals", {})])
    if totals.pop("n_unusable"):
        raise_unusable(passes)
    return totals


def group_candidates(passes: Passes, groups: Sequence[str]) -> dict[str, dict[str, int]]:
    """Group -> n_candidates and candidate_tokens: all documents, but for groups that only rank some of them.

    Raises:
        AutomixerError: a joint utility that is no number, or a group that has no candidate at all.
    """
    totals = candidate_totals(passes)
    if not has_partial_groups(pq.read_schema(passes.shards[0].path)):
        return dict.fromkeys(groups, totals)
    asked = [Question("group_candidates", {"column": utility_column(group)}) for group in groups]
    found = dict(zip(groups, _sums(passes, asked), strict=True))
    empty = [group for group in groups if not found[group]["n_candidates"]]
    if totals["n_candidates"] and empty:
        raise AutomixerError(
            f"no document of the mixture's snapshots is a candidate of {', '.join(empty)}; "
            "take the group out of the recipe's `options`, or add a snapshot that has it"
        )
    return found


def _sums(passes: Passes, questions: Sequence[Question]) -> list[dict[str, int]]:
    """For each question the columns of its rows, all counts, added up."""
    return [{name: sum(rows[name].to_pylist()) for name in rows.column_names} for rows in passes.ask(questions)]


def find_cuts(passes: Passes, keep: Mapping[str, int], totals: Mapping[str, int]) -> list[Cut]:
    """Where groups end.

    Args:
        keep: group -> how many documents it keeps.
        totals: group -> of how many candidates.
    """
    ranks = [Rank(utility_column(group), keep[group], totals[group]) for group in keep]
    ranked = dict(zip(keep, utilities_at_ranks(passes, ranks), strict=True))
    ties = [
        Tie(group, utility_column(group), found.utility, keep[group] - found.n_above)
        for group, found in ranked.items()
        if found.n_above + found.n_tied > keep[group]
    ]
    last = {row.pop("group"): row for row in passes.last_tied(ties)} if ties else {}
    return [Cut(group, ranked[group].utility, **last.get(group, {})) for group in keep]


def write_selections(shard: JointShard, *, cuts: Sequence[Cut], out: Path) -> pa.Table:
    """Write the shard's selection file of every group; returns its rows of `memberships.parquet`."""
    joint = read_columns(
        shard.path, ["doc_id", "n_tokens", "joint_utility", *(utility_column(cut.group) for cut in cuts)]
    )
    joint = joint.add_column(0, "row", pa.arange(0, joint.num_rows))
    kept = {name: joint[name] for name in ("n_tokens", "joint_utility")}
    with open_database() as database:
        for cut in cuts:
            utility = database.table("kept_utility", _cut_parameters(cut, shard), joint_shard=joint)["utility"]
            kept[KEPT_PREFIX + cut.group] = utility
            rows = joint.select(["row", "doc_id", "n_tokens"]).append_column("utility", utility)
            rows = rows.append_column("joint_utility", joint["joint_utility"])
            _write_kept(rows, out / "groups" / cut.group / shard.snapshot / f"{shard.shard}.parquet")
        memberships = database.table("group_memberships", {}, kept_utilities=pa.table(kept))
    place = [pa.array([name] * memberships.num_rows, pa.string()) for name in (shard.snapshot, shard.shard)]
    return memberships.add_column(0, "snapshot", place[0]).add_column(1, "shard", place[1])


def _write_kept(rows: pa.Table, out: Path) -> None:
    """Write the rows that have a utility, a piece at a time: small copies reuse the memory of the one before."""
    with table_writer(out, rows.schema) as write:
        for start in range(0, max(rows.num_rows, 1), ROWS_PER_GROUP):
            piece = rows.slice(start, ROWS_PER_GROUP)
            write(piece.filter(piece["utility"].is_valid()))


def _cut_parameters(cut: Cut, shard: JointShard) -> dict[str, Any]:
    return {
        "column": utility_column(cut.group),
        "threshold": cut.threshold,
        "doc_id": cut.doc_id,
        "cut_snapshot": cut.snapshot,
        "cut_shard": cut.shard,
        "cut_row": cut.row,
        "snapshot": shard.snapshot,
        "shard": shard.shard,
    }


def common_groups(shards: Sequence[JointShard]) -> list[str]:
    """Groups of the joint tables, in column order; all shards must agree, on the queries behind them too."""
    if not shards:
        raise AutomixerError("the mixture has no joint_influence shards; materialise joint_influence for its snapshots")
    first = pq.read_schema(shards[0].path)
    expected = [name for name in first.names if name.startswith(UTILITY_PREFIX)]
    for shard in shards:
        schema = pq.read_schema(shard.path)
        names = [name for name in schema.names if name.startswith(UTILITY_PREFIX)]
        if names != expected or not names:
            raise AutomixerError(
                f"{shard.path} has the utility columns {names} where {shards[0].path} has {expected}; "
                "materialise joint_influence again for all snapshots of the mixture"
            )
        if has_partial_groups(schema) != has_partial_groups(first):
            raise AutomixerError(
                f"{shard.path} and {shards[0].path} do not agree on whether a null utility is meant; "
                "materialise joint_influence again for all snapshots of the mixture"
            )
        if _queries(schema) != _queries(first):
            raise AutomixerError(
                f"{shard.path} was scored with the queries {_queries(schema)} but {shards[0].path} with "
                f"{_queries(first)}; materialise influence and joint_influence again for all snapshots of the mixture"
            )
    return [name.removeprefix(UTILITY_PREFIX) for name in expected]


def _queries(schema: pa.Schema) -> dict[str, str]:
    return json.loads((schema.metadata or {}).get(QUERIES, b"{}"))


def _groups_table(summaries: Sequence[GroupSummary]) -> pa.Table:
    fields = ("threshold", "n_documents", "n_tokens", "n_candidates", "candidate_tokens")
    names = pa.array([summary.name for summary in summaries], pa.string())
    return pa.table({"group": names} | {field: [getattr(summary, field) for summary in summaries] for field in fields})


def _overlap_table(groups: Sequence[str], shared: Mapping[tuple[str, str], Mapping[str, Any]]) -> pa.Table:
    """Every ordered pair of two different groups, pairs without a common document too."""
    pairs = [(group, other) for group in groups for other in groups if group != other]
    both = [shared[pair]["n_documents"] if pair in shared else 0 for pair in pairs]
    own = [shared[group, group]["n_documents"] for group, _ in pairs]
    return pa.table(
        {
            "group": pa.array([group for group, _ in pairs], pa.string()),
            "other": pa.array([other for _, other in pairs], pa.string()),
            "n_documents": pa.array(both, pa.int64()),
            "share": pa.array([count / total for count, total in zip(both, own, strict=True)], pa.float64()),
        }
    )
