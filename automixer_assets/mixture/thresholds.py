"""Exact utilities at a rank over any number of shards: bounded memory, the same result in every run.

Two passes: a histogram over the upper bits of the utilities says in which bucket the rank lies, then that bucket alone
is ranked in full. Where one bucket holds too much it is split again by the next bits, four times at most. Histograms
and counts of equal utilities add up over parts of the shards (`passes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import has_partial_groups
from automixer_assets.mixture.passes import Passes, Question
from automixer_assets.mixture.sql import open_database

BITS_PER_PASS = 16
FIRST_SHIFT = 64 - BITS_PER_PASS
RANKED_DOCUMENTS = 2**22
"""A bucket of at most so many documents is ranked without another histogram: 64 MiB of utilities and counts."""


@dataclass(frozen=True)
class RankedUtility:
    """The utility at a rank, and how many documents lie above it and at it."""

    utility: float
    n_above: int
    n_tied: int


@dataclass(frozen=True)
class Bucket:
    """Utilities between two ends, both included, and what lies above them."""

    lowest: float
    highest: float
    n_documents: int
    n_above: int

    @property
    def is_single(self) -> bool:
        return self.lowest == self.highest

    @property
    def is_too_large(self) -> bool:
        return not self.is_single and self.n_documents > RANKED_DOCUMENTS


@dataclass(frozen=True)
class Rank:
    """A place among the `total` utilities of a column; 1 is the highest."""

    column: str
    rank: int
    total: int


def utilities_at_ranks(passes: Passes, ranks: Sequence[Rank]) -> list[RankedUtility]:
    """The utility of the document at each rank; all ranks share the passes.

    Raises:
        AutomixerError: a utility that is null, NaN or infinite.
    """
    wholes = {each.column: Bucket(-math.inf, math.inf, each.total, 0) for each in ranks}
    first = dict(zip(wholes, _histograms(passes, list(wholes.items()), FIRST_SHIFT), strict=True))
    buckets = [_bucket_at(first[each.column], each.rank, 0) for each in ranks]
    for shift in range(FIRST_SHIFT - BITS_PER_PASS, -1, -BITS_PER_PASS):
        large = [index for index, bucket in enumerate(buckets) if bucket.is_too_large]
        if not large:
            break
        within = _histograms(passes, [(ranks[index].column, buckets[index]) for index in large], shift)
        for index, rows in zip(large, within, strict=True):
            buckets[index] = _bucket_at(rows, ranks[index].rank, buckets[index].n_above)
    return _ranked(passes, ranks, buckets)


def _ranked(passes: Passes, ranks: Sequence[Rank], buckets: Sequence[Bucket]) -> list[RankedUtility]:
    """The utilities themselves, each within the bucket that holds it."""
    found = {
        index: RankedUtility(bucket.lowest, bucket.n_above, bucket.n_documents)
        for index, bucket in enumerate(buckets)
        if bucket.is_single
    }
    left = [index for index in range(len(ranks)) if index not in found]
    asked = [Question("bucket_utilities", _within(ranks[index].column, buckets[index])) for index in left]
    with open_database() as database:
        for index, utilities in zip(left, passes.ask(asked), strict=True):
            rank, n_above = ranks[index].rank, buckets[index].n_above
            place = database.table("utility_at_rank", {"rank": rank - n_above}, bucket_utilities=utilities)
            (row,) = place.to_pylist()
            found[index] = RankedUtility(row["utility"], n_above + row["n_above"], row["n_tied"])
    return [found[index] for index in range(len(ranks))]


def _within(column: str, bucket: Bucket) -> dict[str, Any]:
    return {"column": column, "lowest": bucket.lowest, "highest": bucket.highest}


def _histograms(passes: Passes, buckets: Sequence[tuple[str, Bucket]], shift: int) -> list[list[dict[str, Any]]]:
    """Buckets within buckets of columns, which must hold all their documents; from the highest utilities down."""
    asked = [Question("utility_histogram", {**_within(column, bucket), "shift": shift}) for column, bucket in buckets]
    histograms = [added_up(rows).to_pylist() for rows in passes.ask(asked)]
    for rows, (_, bucket) in zip(histograms, buckets, strict=True):
        ends = [row[end] for row in rows for end in ("lowest", "highest")]
        if sum(row["n_documents"] for row in rows) != bucket.n_documents or not all(map(math.isfinite, ends)):
            raise_unusable(passes)
    return histograms


def added_up(histogram: pa.Table) -> pa.Table:
    """One row per bucket of the rows of utility_histogram.sql that parts gave; highest utilities first."""
    merged = histogram.group_by("bucket").aggregate([("lowest", "min"), ("highest", "max"), ("n_documents", "sum")])
    names = {f"{name}_{how}": name for name, how in (("lowest", "min"), ("highest", "max"), ("n_documents", "sum"))}
    return merged.rename_columns(names).sort_by([("highest", "descending")])


def raise_unusable(passes: Passes) -> None:
    """Name the first document whose utility is no number."""
    partial = any(has_partial_groups(pq.read_schema(shard.path)) for shard in passes.shards)
    (found,) = passes.ask([Question("unusable_utilities", {"partial_groups": partial})])
    for bad in sorted(found.to_pylist(), key=lambda row: (row["file"], row["row"], row["column_name"])):
        raise AutomixerError(
            f"{bad['file']} has a null or NaN {bad['column_name']} for document {bad['doc_id']!r} (row {bad['row']}); "
            "materialise joint_influence again"
        )


def _bucket_at(rows: Sequence[Mapping[str, Any]], rank: int, n_above: int) -> Bucket:
    """The bucket that holds the rank; `rows` from the highest utilities down."""
    for row in rows:
        if rank <= n_above + row["n_documents"]:
            return Bucket(row["lowest"], row["highest"], row["n_documents"], n_above)
        n_above += row["n_documents"]
    raise AutomixerError(f"there is no rank {rank} among {n_above} documents; materialise joint_influence again")
