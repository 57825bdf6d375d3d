"""Tokens and quality by range of joint utility (paper, Table 4): what kind of text does influence prefer?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.passes import JointShard, Passes, PassesOver, in_order, passes_here
from automixer_assets.mixture.regroup import candidate_totals
from automixer_assets.mixture.sql import run_sql
from automixer_assets.mixture.thresholds import Rank, utilities_at_ranks

PERCENTILES = (0, 5, 25, 50, 75, 80, 85, 90, 95, 100)
"""The paper's ranges from 5 to 95, and both ends."""


def write_percentile_ranges(
    *,
    joint: Sequence[JointShard],
    documents: Mapping[tuple[str, str], Path],
    out: Path,
    passes_over: PassesOver = passes_here,
) -> None:
    """Write `percentile_ranges.parquet`: a row per range of joint utility, over the union of all shards.

    Args:
        joint: joint_influence shards of the mixture's snapshots.
        documents: (snapshot, shard) -> the tokenised shard, row-aligned, with the quality columns that the corpus has.
        out: the file to write.
        passes_over: where shards are read.
    """
    passes = passes_over(in_order(joint))
    ranges = joint_utility_ranges(passes, candidate_totals(passes)["n_candidates"])
    sums = passes.each(partial(range_sums, documents=documents, ranges=ranges))
    position = [number for number, table in enumerate(sums) for _ in range(table.num_rows)]
    positioned = pa.concat_tables(sums).append_column("position", pa.array(position, pa.int64()))
    write_table(run_sql("percentile_statistics", {"ranges": ranges}, range_sums=positioned), out)


def joint_utility_ranges(passes: Passes, total: int) -> list[dict[str, Any]]:
    """`[{range, lower, upper}]`; percentile p is the lowest utility that p % of the documents do not exceed."""
    ranks = [total - math.ceil(Fraction(percentile, 100) * total) + 1 for percentile in PERCENTILES[1:]]
    found = utilities_at_ranks(passes, [Rank("joint_utility", rank, total) for rank in ranks])
    edges = [-math.inf, *(each.utility for each in found)]
    return [
        {"range": f"p{low:02d}-{high:02d}", "lower": lower, "upper": upper}
        for (low, high), (lower, upper) in zip(pairwise(PERCENTILES), pairwise(edges), strict=True)
    ]


def range_sums(
    shard: JointShard, *, documents: Mapping[tuple[str, str], Path], ranges: list[dict[str, Any]]
) -> pa.Table:
    """Sums over a shard's documents in each range (percentile_ranges.sql)."""
    path = documents[shard.snapshot, shard.shard]
    sums = run_sql("percentile_ranges", {"joint": str(shard.path), "documents": str(path), "ranges": ranges})
    misaligned = sums["n_misaligned"][0].as_py()
    if misaligned:
        raise AutomixerError(
            f"{shard.path} is not row-aligned with {path}: {misaligned} rows have different doc_ids; "
            "materialise joint_influence again"
        )
    return sums
