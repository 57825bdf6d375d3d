"""Exact utilities at a rank over any number of shards: bounded memory, the same result in every run.

Two passes: a histogram over the upper bits of the utilities says in which bucket the rank lies, then that bucket alone
is ranked in full. Where one bucket holds too much it is split again by the next bits, four times at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import has_partial_groups
from automixer_assets.mixture.sql import Database

BITS_PER_PASS = 16
FIRST_SHIFT = 64 - BITS_PER_PASS
RANKED_DOCUMENTS = 2**22
"""A bucket of at most so many documents is ranked without another histogram: 32 MiB of doubles."""


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


def utility_at_rank(database: Database, files: Sequence[str], column: str, rank: int, total: int) -> RankedUtility:
    """The utility of the document at `rank` (1 is the highest) among the `total` documents of `files`."""
    return utilities_at_ranks(database, files, column, [rank], total)[0]


def utilities_at_ranks(
    database: Database, files: Sequence[str], column: str, ranks: Sequence[int], total: int
) -> list[RankedUtility]:
    """The same for several ranks, which share the first pass.

    Raises:
        AutomixerError: a utility that is null, NaN or infinite.
    """
    rows = _histogram(database, files, column, Bucket(-math.inf, math.inf, total, 0), FIRST_SHIFT)
    return [_within(database, files, column, _bucket_at(rows, rank, 0), rank) for rank in ranks]


def _within(database: Database, files: Sequence[str], column: str, bucket: Bucket, rank: int) -> RankedUtility:
    for shift in range(FIRST_SHIFT - BITS_PER_PASS, -1, -BITS_PER_PASS):
        if bucket.lowest == bucket.highest or bucket.n_documents <= RANKED_DOCUMENTS:
            break
        bucket = _bucket_at(_histogram(database, files, column, bucket, shift), rank, bucket.n_above)
    if bucket.lowest == bucket.highest:
        return RankedUtility(bucket.lowest, bucket.n_above, bucket.n_documents)
    bounds = {"lowest": bucket.lowest, "highest": bucket.highest, "rank": rank - bucket.n_above}
    row = database.table("utility_at_rank", {"files": files, "column": column, **bounds}).to_pylist()[0]
    return RankedUtility(row["utility"], bucket.n_above + row["n_above"], row["n_tied"])


def _histogram(
    database: Database, files: Sequence[str], column: str, bucket: Bucket, shift: int
) -> list[dict[str, Any]]:
    """Buckets within a bucket, which must hold all its documents."""
    bounds = {"lowest": bucket.lowest, "highest": bucket.highest, "shift": shift}
    rows = database.table("utility_histogram", {"files": files, "column": column, **bounds}).to_pylist()
    ends = [row[end] for row in rows for end in ("lowest", "highest")]
    if sum(row["n_documents"] for row in rows) != bucket.n_documents or not all(map(math.isfinite, ends)):
        raise_unusable(database, files)
    return rows


def raise_unusable(database: Database, files: Sequence[str]) -> None:
    """Name the first document whose utility is no number."""
    partial = any(has_partial_groups(pq.read_schema(file)) for file in files)
    for bad in database.table("unusable_utilities", {"files": files, "partial_groups": partial}).to_pylist():
        raise AutomixerError(
            f"{bad['file']} has a null or NaN {bad['column_name']} for document {bad['doc_id']!r} (row {bad['row']}); "
            "materialise joint_influence again"
        )


def _bucket_at(rows: Sequence[dict[str, Any]], rank: int, n_above: int) -> Bucket:
    """The bucket that holds the rank; `rows` from the highest utilities down."""
    for row in rows:
        if rank <= n_above + row["n_documents"]:
            return Bucket(row["lowest"], row["highest"], row["n_documents"], n_above)
        n_above += row["n_documents"]
    raise AutomixerError(f"there is no rank {rank} among {n_above} documents; materialise joint_influence again")
