"""A group above its budget is read in part: a sample without replacement, by utility (paper, section 4).

Documents of smallest -ln(u) / weight are a sample in which each is drawn next with a probability in proportion to its
weight. u comes from the document's id, the weight is its joint utility as a rank among the documents of the mixture's
first snapshot, so no key changes when snapshots are added: more documents only push some out. The cutoff is found in
bounded memory as thresholds are (`thresholds`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import Selection
from automixer_assets.mixture.manifest import ManifestGroup, Subsample
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.sql import Database, open_database
from automixer_assets.mixture.thresholds import BITS_PER_PASS, FIRST_SHIFT, RANKED_DOCUMENTS

SCALE_FILE = "rank_scale.parquet"
SCALE_SHIFT = 44
"""256 buckets per power of two: joint utilities are ranked among them, linear within each."""
SCALE_RANKS = 32
SAMPLED_COLUMNS = ["doc_id", "joint_utility"]

Scale = tuple[tuple[float, float], ...]
"""(joint utility, rank), ascending; ranks are in (0, 1). Linear between, flat beyond."""


def write_rank_scale(joint: Sequence[Path], out: Path) -> None:
    """Write the scale of joint utilities, `utility, rank`, of all documents in some joint_influence shards."""
    everything = {"lowest": -math.inf, "highest": math.inf, "shift": SCALE_SHIFT}
    parameters = {"files": [str(path) for path in joint], "column": "joint_utility", **everything}
    with open_database() as database:
        buckets = database.table("utility_histogram", parameters).sort_by("lowest").to_pydict()
    counts = np.array(buckets["n_documents"], dtype=np.float64)
    total, below = counts.sum(), np.cumsum(counts) - counts
    # A document in a bucket has the rank of its place there; one that is alone or tied with all has the middle one.
    single = np.array(buckets["lowest"]) == np.array(buckets["highest"])
    first = np.where(single, below + counts / 2, below + 0.5) / total
    last = np.where(single, below + counts / 2, below + counts - 0.5) / total
    utility = np.stack([buckets["lowest"], buckets["highest"]], axis=1).ravel()
    rank = np.stack([first, last], axis=1).ravel()
    utility, where = np.unique(utility, return_index=True)
    rank = rank[where]
    chosen = np.unique(np.searchsorted(rank, np.linspace(rank[0], rank[-1], SCALE_RANKS + 1)).clip(max=len(rank) - 1))
    write_table(pa.table({"utility": utility[chosen], "rank": rank[chosen]}), out)


def read_rank_scale(grouped: Path) -> Scale:
    """The scale of a grouped_shards folder."""
    path = grouped / SCALE_FILE
    if not path.exists():
        raise AutomixerError(
            f"{path} is missing, so groups above their budget cannot be sampled by utility; materialise "
            "grouped_shards again or set `over_budget: hash_order`"
        )
    table = pq.read_table(path).to_pydict()
    return tuple(zip(table["utility"], table["rank"], strict=True))


def find_subsample(
    selections: Sequence[Selection], *, group: str, n_tokens: int, seed: int, scale: Scale
) -> Subsample | None:
    """The sample of a group's documents that has just enough tokens; None where that takes all of them.

    Args:
        selections: the group's selection files.
        n_tokens: tokens that are allocated to the group, above 0.
    """
    with TemporaryDirectory(prefix="automixer-keys-") as folder, open_database() as database:
        keyed = [Path(folder) / f"{number}.parquet" for number in range(len(selections))]
        for selection, path in zip(selections, keyed, strict=True):
            rows = pq.read_table(selection.path, columns=[*SAMPLED_COLUMNS, "n_tokens"])
            keys = _keys(database, rows, group=group, seed=seed, scale=scale)
            write_table(rows.select(["n_tokens"]).append_column("sample_key", keys), path)
        cut = _cutoff(database, [str(path) for path in keyed], n_tokens)
    return None if cut is None else Subsample(seed=seed, scale=list(scale), **cut)


def sampled(rows: pa.Table, group: ManifestGroup) -> np.ndarray:
    """Which of a group's rows (`doc_id, joint_utility`) a trainer reads, [rows] of bool."""
    subsample = group.subsample
    if subsample is None:
        return np.ones(rows.num_rows, dtype=bool)
    scale = tuple(subsample.scale)
    with open_database() as database:
        keys = _keys(database, rows, group=group.name, seed=subsample.seed, scale=scale)
    return keys.to_numpy() <= subsample.cutoff


def _keys(database: Database, rows: pa.Table, *, group: str, seed: int, scale: Scale) -> pa.ChunkedArray:
    """Sample keys of rows (`doc_id, joint_utility`), in their order."""
    utilities = rows.select(["joint_utility"]).rename_columns(["utility"])
    weights = Normalisation(knots=scale).apply(utilities, database)["utility"]
    documents = pa.table({"row": np.arange(rows.num_rows), "doc_id": rows["doc_id"], "weight": weights})
    return database.table("sample_keys", {"seed": seed, "group": group}, documents=documents)["sample_key"]


def _cutoff(database: Database, files: list[str], n_tokens: int) -> dict[str, Any] | None:
    """cutoff, n_documents, n_tokens of the smallest keys that have at least so many tokens; None if all are needed."""
    lowest, highest, following = 0.0, math.inf, None
    n_documents, missing = 0, n_tokens
    for shift in range(FIRST_SHIFT, -1, -BITS_PER_PASS):
        bounds = {"files": files, "lowest": lowest, "highest": highest, "shift": shift}
        buckets = database.table("sample_key_histogram", bounds).to_pylist()
        ends = np.cumsum([bucket["n_tokens"] for bucket in buckets])
        index = int(np.searchsorted(ends, missing))
        bucket = buckets[index]
        following = buckets[index + 1]["lowest"] if index + 1 < len(buckets) else following
        lowest, highest = bucket["lowest"], bucket["highest"]
        n_documents += sum(each["n_documents"] for each in buckets[:index])
        missing -= int(ends[index]) - bucket["n_tokens"]
        if bucket["n_documents"] <= RANKED_DOCUMENTS:
            break
    bounds = {"files": files, "lowest": lowest, "highest": highest, "n_tokens": missing}
    last = database.table("sample_cutoff", bounds).to_pylist()[0]
    following = following if last["next_key"] is None else last["next_key"]
    if following is None:
        return None
    # Halfway to the next key, so that a logarithm that is off in its last bit elsewhere draws the same sample.
    cutoff = (last["sample_key"] + following) / 2
    return {
        "cutoff": cutoff,
        "n_documents": n_documents + last["n_documents"],
        "n_tokens": n_tokens - missing + last["n_tokens"],
    }
