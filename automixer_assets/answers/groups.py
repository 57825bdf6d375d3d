"""Are the groups what the scores give? Thresholds, members, and the sums that weights are made of, shard by shard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import polars as pl

from automixer_assets.answers.findings import Check, named
from automixer_assets.answers.formulas import GroupSums
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.shards import MixtureShard, MixtureShards, Ties, ties_of, utility_at_rank
from automixer_assets.mixture.groups import MEMBERSHIPS, read_group_summaries
from automixer_assets.mixture.uncertainty import BUCKETS, SHARD_STRIDE, BucketSums

GOLDEN = 2654435769
"""2^32 over the golden ratio, as density_buckets.sql spreads documents over buckets."""


@dataclass
class Counted:
    """What the pass over all shards added up, in the order of the groups."""

    groups: tuple[str, ...]
    n_documents: np.ndarray  # [groups, buckets]; so the next three
    n_tokens: np.ndarray
    utility_tokens: np.ndarray
    total_tokens: np.ndarray
    utility_terms: np.ndarray  # [groups] sum of |joint utility| x tokens: the size of what was added up
    shared: np.ndarray  # [groups, groups] documents in both
    lowest: float = math.inf
    highest: float = -math.inf

    @property
    def sums(self) -> list[GroupSums]:
        return [
            GroupSums(
                int(self.n_documents[i].sum()),
                int(self.n_tokens[i].sum()),
                math.fsum(self.utility_tokens[i]),
                math.fsum(self.total_tokens[i]),
            )
            for i in range(len(self.groups))
        ]

    def buckets(self) -> BucketSums:
        """As the intervals need it."""
        each = (self.n_documents, self.n_tokens, self.utility_tokens, self.total_tokens)
        return BucketSums(self.groups, *each, lowest_total=self.lowest, highest_total=self.highest)


def empty_count(groups: Sequence[str]) -> Counted:
    n = len(groups)
    bins = [np.zeros((n, BUCKETS)) for _ in range(4)]
    return Counted(tuple(groups), bins[0], bins[1], bins[2], bins[3], np.zeros(n), np.zeros((n, n), dtype=np.int64))


def check_thresholds(inputs: PinnedInputs, shards: MixtureShards) -> tuple[Check, dict[str, float]]:
    """Exact thresholds over the union of the snapshots, in `groups.parquet` and in the manifest.

    The stored one is right if exactly so many candidates lie above and at it; one that is not is looked for again.
    """
    check = Check("thresholds", "Does each group keep exactly its top share, ties by doc id?")
    thresholds: dict[str, float] = {}
    with check.reading(str(inputs.grouped / "groups.parquet")):
        summaries = {each.name: each for each in read_group_summaries(inputs.grouped)}
        for group in inputs.manifest.groups:
            n_candidates, tokens = _candidates(shards, group.name)
            keep = math.ceil(Fraction(str(inputs.mixture.top_share)) * n_candidates)
            stored, where = summaries[group.name], f"{inputs.grouped / 'groups.parquet'}: {group.name}"
            thresholds[group.name] = _threshold(shards, group.name, stored.threshold, keep)
            check.equal(f"{where}.threshold", stored.threshold, thresholds[group.name])
            check.equal(f"groups[{group.name}].threshold", group.threshold, thresholds[group.name])
            check.equal(f"{where}.n_candidates", stored.n_candidates, n_candidates)
            check.equal(f"{where}.candidate_tokens", stored.candidate_tokens, tokens)
            check.equal(f"groups[{group.name}].n_documents, by the top share", group.n_documents, keep)
            _check_ties(check, shards, group.name, thresholds[group.name])
    return check, thresholds


def _candidates(shards: MixtureShards, group: str) -> tuple[int, int]:
    """How many documents the group chooses from, and their tokens."""
    n_candidates = tokens = 0
    for shard in shards:
        ranked = shard.is_ranked(group)
        n_candidates, tokens = n_candidates + int(ranked.sum()), tokens + int(shard.n_tokens[ranked].sum())
    return n_candidates, tokens


def _threshold(shards: MixtureShards, group: str, stored: float, keep: int) -> float:
    above = at = 0
    for shard in shards:
        utility = shard.utility(group)[shard.is_ranked(group)]
        above, at = above + int((utility > stored).sum()), at + int((utility == stored).sum())
    if above < keep <= above + at:
        return stored
    return utility_at_rank(lambda: (shard.utility(group)[shard.is_ranked(group)] for shard in shards), keep)


def _check_ties(check: Check, shards: MixtureShards, group: str, threshold: float) -> None:
    ties = Ties()
    for shard in shards:
        ties = ties.merged(ties_of(shard, group, threshold))
    check.n_compared += 1
    if ties.first_left is not None and ties.last_kept is not None and ties.first_left < ties.last_kept:
        where = f"groups[{group}]: among the documents tied at the threshold, the last one kept"
        check.differ(where, "/".join(map(str, ties.last_kept)), f"before {'/'.join(map(str, ties.first_left))}")


def check_members(
    check: Check, shard: MixtureShard, number: int, thresholds: Mapping[str, float], counted: Counted
) -> None:
    """Selection files of one shard, row by row, against scores and thresholds; adds its sums to `counted`.

    Args:
        number: the shard's place among all, from 0.
    """
    kept = np.array([_checked_members(check, shard, group, thresholds[group]) for group in shard.groups])
    total = np.where(kept, shard.utilities, 0).sum(axis=0)  # [n] Appendix B's total influence
    _add(counted, shard, number, kept, total)
    with check.reading(str(shard.inputs.grouped / MEMBERSHIPS)):
        _check_memberships(check, shard, kept, total)


def _checked_members(check: Check, shard: MixtureShard, group: str, threshold: float) -> np.ndarray:
    """[n] bool: who is in the group by its selection file."""
    path, utility = shard.selection_path(group), shard.utilities[shard.groups.index(group)]
    if not path.exists():
        check.differ(str(path), "deleted", "a selection file")
        return (utility >= threshold) & shard.is_candidate
    selection, kept = shard.selection(group), shard.kept(group)
    rows = selection["row"].to_numpy()
    check.equal(f"{path}: order of rows", bool((np.diff(rows) > 0).all()), True)
    check.equal_rows(f"{path}: doc_id", selection["doc_id"].to_numpy(), shard.doc_ids.gather(rows).to_numpy())
    check.equal_rows(f"{path}: n_tokens", selection["n_tokens"].to_numpy(), shard.n_tokens[rows])
    check.equal_rows(f"{path}: utility", selection["utility"].to_numpy(), utility[rows])
    joint = shard.joint["joint_utility"].to_numpy()
    check.equal_rows(f"{path}: joint_utility", selection["joint_utility"].to_numpy(), joint[rows])
    above, below = (utility > threshold) & shard.is_candidate, ~(utility >= threshold) | ~shard.is_candidate
    check.n_compared += len(kept)
    for row in np.flatnonzero(above & ~kept).tolist():
        check.differ(f"{path}: document {shard.doc_ids[row]!r} (row {row})", "left out", f"kept: {utility[row]:.9g}")
    for row in np.flatnonzero(below & kept).tolist():
        reason = f"left out: {utility[row]:.9g}" if shard.is_candidate[row] else "excluded"
        check.differ(f"{path}: document {shard.doc_ids[row]!r} (row {row})", "kept", reason)
    return kept


def _check_memberships(check: Check, shard: MixtureShard, kept: np.ndarray, total: np.ndarray) -> None:
    """This shard's rows of `memberships.parquet`: sums over the documents that share a set of groups."""
    path, sets = shard.inputs.grouped / MEMBERSHIPS, [f"in__{group}" for group in shard.groups]
    here = (pl.col("snapshot") == shard.snapshot) & (pl.col("shard") == shard.name)
    stored = {tuple(row[name] for name in sets): row for row in pl.scan_parquet(path).filter(here).collect().to_dicts()}
    found = {tuple(row[name] for name in sets): row for row in _set_sums(shard, sets, kept, total).to_dicts()}
    check.equal(f"{path}: {shard.place}, sets of groups", sorted(stored), sorted(found))
    for members in stored.keys() & found.keys():
        names = [group for group, is_in in zip(shard.groups, members, strict=True) if is_in]
        where, row, own = f"{path}: {shard.place}, in {named(names)}", stored[members], found[members]
        for column in ("n_documents", "n_tokens"):
            check.equal(f"{where}: {column}", row[column], own[column])
        check.close(f"{where}: utility_tokens", row["utility_tokens"], own["utility_tokens"], own["utility_terms"])
        for column in ("shard_lowest", "lowest", "highest"):
            check.close(f"{where}: {column}", row[column], own[column], own["largest"])
        check.close(f"{where}: excess_tokens", row["excess_tokens"], own["excess_tokens"], own["excess_terms"])


def _set_sums(shard: MixtureShard, sets: Sequence[str], kept: np.ndarray, total: np.ndarray) -> pl.DataFrame:
    """A row per set of groups that a candidate is in: the columns of `memberships.parquet`, and sizes of the terms."""
    any_kept = kept.any(axis=0)
    lowest = float(total[any_kept].min()) if any_kept.any() else None
    documents = pl.DataFrame(
        {
            **dict(zip(sets, kept, strict=True)),
            "n_tokens": shard.n_tokens,
            "product": shard.joint["joint_utility"].to_numpy() * shard.n_tokens,
            "total": pl.Series(values=np.where(any_kept, total, np.nan), nan_to_null=True),
        }
    ).filter(pl.Series(shard.is_candidate))
    tokens, total_ = pl.col("n_tokens"), pl.col("total")
    none_kept = total_.is_null().all()
    return documents.group_by(*sets).agg(
        pl.len().alias("n_documents"),
        tokens.sum(),
        pl.col("product").sum().alias("utility_tokens"),
        pl.col("product").abs().sum().alias("utility_terms"),
        pl.lit(lowest).alias("shard_lowest"),
        total_.min().alias("lowest"),
        total_.max().alias("highest"),
        pl.when(none_kept).then(None).otherwise(((total_ - lowest) * tokens).sum()).alias("excess_tokens"),
        (total_.abs() * tokens).sum().alias("excess_terms"),
        total_.abs().max().fill_null(0.0).alias("largest"),
    )


def _add(counted: Counted, shard: MixtureShard, number: int, kept: np.ndarray, total: np.ndarray) -> None:
    joint, tokens = shard.joint["joint_utility"].to_numpy(), shard.n_tokens.astype(np.float64)
    numbers = (SHARD_STRIDE * number + np.arange(len(tokens))) % 2**32
    bucket = (numbers * GOLDEN % 2**32) * BUCKETS // 2**32  # below 2^63: GOLDEN and numbers are below 2^32
    for i, own in enumerate(kept):
        for sums, terms in (
            (counted.n_documents, np.ones(own.sum())),
            (counted.n_tokens, tokens[own]),
            (counted.utility_tokens, (joint * tokens)[own]),
            (counted.total_tokens, (total * tokens)[own]),
        ):
            sums[i] += np.bincount(bucket[own], terms, minlength=BUCKETS)
        counted.utility_terms[i] += np.abs((joint * tokens)[own]).sum()
    counted.shared += kept.astype(np.int64) @ kept.T.astype(np.int64)
    if (any_kept := kept.any(axis=0)).any():
        counted.lowest = min(counted.lowest, float(total[any_kept].min()))
        counted.highest = max(counted.highest, float(total[any_kept].max()))


def check_tables(inputs: PinnedInputs, counted: Counted, shards: MixtureShards) -> Check:
    """`groups.parquet`, `overlap.parquet` and `exclusions.parquet` of the grouped shards."""
    check = Check("group tables", "Do sizes, overlaps and exclusions add up?")
    folder, sums = inputs.grouped, dict(zip(counted.groups, counted.sums, strict=True))
    with check.reading(str(folder / "groups.parquet")):
        for summary in read_group_summaries(folder):
            where, own = f"{folder / 'groups.parquet'}: {summary.name}", sums[summary.name]
            check.equal(f"{where}.n_documents", summary.n_documents, own.n_documents)
            check.equal(f"{where}.n_tokens", summary.n_tokens, own.n_tokens)
    with check.reading(str(folder / "overlap.parquet")):
        for row in pl.read_parquet(folder / "overlap.parquet").iter_rows(named=True):
            first, second = (counted.groups.index(row[name]) for name in ("group", "other"))
            where = f"{folder / 'overlap.parquet'}: {row['group']} and {row['other']}"
            both = int(counted.shared[first, second])
            check.equal(f"{where}.n_documents", row["n_documents"], both)
            check.close(f"{where}.share", row["share"], both / sums[row["group"]].n_documents)
    with check.reading(str(folder / "exclusions.parquet")):
        stored = pl.read_parquet(folder / "exclusions.parquet").rows()
        check.equal(f"{folder / 'exclusions.parquet'}", sorted(stored), sorted(_exclusions(inputs, shards)))
    return check


def _exclusions(inputs: PinnedInputs, shards: MixtureShards) -> list[tuple[str, str, int, int]]:
    totals: dict[tuple[str, str], list[int]] = {}
    for shard in shards:
        for row, _, reason in inputs.exclusions.of(shard.snapshot, shard.name).iter_rows():
            total = totals.setdefault((shard.snapshot, reason), [0, 0])
            total[0] += 1
            total[1] += int(shard.n_tokens[row])
    return [(snapshot, reason, n, tokens) for (snapshot, reason), (n, tokens) in totals.items()]
