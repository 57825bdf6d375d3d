"""Tokens and quality by range of joint utility (paper, Table 4): what kind of text does influence prefer?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.regroup import THREADS, JointShard, candidate_totals, shard_parameters
from automixer_assets.mixture.sql import Database, open_database
from automixer_assets.mixture.thresholds import utilities_at_ranks

PERCENTILES = (0, 5, 25, 50, 75, 80, 85, 90, 95, 100)
"""The paper's ranges from 5 to 95, and both ends."""


def write_percentile_ranges(
    *, joint: Sequence[JointShard], documents: Mapping[tuple[str, str], Path], out: Path
) -> None:
    """Write `percentile_ranges.parquet`: a row per range of joint utility, over the union of all shards.

    Args:
        joint: joint_influence shards of the mixture's snapshots.
        documents: (snapshot, shard) -> the tokenised shard, row-aligned, with the quality columns that the corpus has.
        out: the file to write.
    """
    shards = sorted(joint, key=lambda shard: (shard.snapshot, shard.shard))
    files = shard_parameters(shards)["files"]
    with open_database(threads=THREADS) as database:
        ranges = joint_utility_ranges(database, files, candidate_totals(database, files)["n_candidates"])
    with open_database() as database:
        sums = [_range_sums(database, shard, documents[shard.snapshot, shard.shard], ranges) for shard in shards]
        position = [number for number, table in enumerate(sums) for _ in range(table.num_rows)]
        range_sums = pa.concat_tables(sums).append_column("position", pa.array(position, pa.int64()))
        table = database.table("percentile_statistics", {"ranges": ranges}, range_sums=range_sums)
    write_table(table, out)


def joint_utility_ranges(database: Database, files: Sequence[str], total: int) -> list[dict[str, Any]]:
    """`[{range, lower, upper}]`; percentile p is the lowest utility that p % of the documents do not exceed."""
    ranks = [total - math.ceil(Fraction(percentile, 100) * total) + 1 for percentile in PERCENTILES[1:]]
    found = utilities_at_ranks(database, files, "joint_utility", ranks, total)
    edges = [-math.inf, *(each.utility for each in found)]
    return [
        {"range": f"p{low:02d}-{high:02d}", "lower": lower, "upper": upper}
        for (low, high), (lower, upper) in zip(pairwise(PERCENTILES), pairwise(edges), strict=True)
    ]


def _range_sums(database: Database, shard: JointShard, documents: Path, ranges: list[dict[str, Any]]) -> pa.Table:
    parameters = {"joint": str(shard.path), "documents": str(documents), "ranges": ranges}
    sums = database.table("percentile_ranges", parameters)
    misaligned = sums["n_misaligned"][0].as_py()
    if misaligned:
        raise AutomixerError(
            f"{shard.path} is not row-aligned with {documents}: {misaligned} rows have different doc_ids; "
            "materialise joint_influence again"
        )
    return sums
