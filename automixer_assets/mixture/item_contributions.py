"""What every validation item carries of every group's utility: a sample of the groups' documents, and their pools.

What belongs here: which documents stand for a group, and the tables. What does not: the scoring itself (see
`influence/item_scores.py`) and what becomes of the numbers (see `item_uncertainty.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.mixture.constant_weights import constant_weights
from automixer_assets.mixture.exposure import token_shard
from automixer_assets.mixture.groups import (
    UTILITY_PREFIX,
    GroupOrigin,
    Selection,
    selection_parameters,
)
from automixer_assets.mixture.item_uncertainty import (
    CHECKPOINTS,
    CONTRIBUTIONS,
    DENSITIES,
    GROUP_PREFIX,
    HALF_PREFIX,
)
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.sql import open_database

SAMPLED_DOCUMENTS = 512
"""Documents that stand for a group; a small group is taken whole."""

Pools = dict[str, dict[int, float]]
"""Pool -> number of a document -> its weight."""


@dataclass(frozen=True)
class Sample:
    """Documents that stand for the groups.

    Attributes:
        documents: `snapshot, shard, row, n_tokens`; a document's number is its place. None occurs twice.
        members: `group, number, weight, half, n_members`: weight is the share of the group's sampled tokens, half 0
            or 1, n_members the documents of the group.
    """

    documents: pl.DataFrame
    members: pl.DataFrame

    def of_group(self, group: str) -> pl.DataFrame:
        return self.members.filter(pl.col("group") == group)

    def tokens(self, snapshots: Mapping[str, TokenizedSnapshot]) -> list[np.ndarray]:
        """Token ids of every document, by number."""
        places = self.documents.select("snapshot", "shard", "row").rows()
        shards = {place: token_shard(snapshots, *place) for place in {(s, name) for s, name, _ in places}}
        return [np.array(shards[snapshot, shard].document_tokens(row)) for snapshot, shard, row in places]


@dataclass(frozen=True)
class Scaling:
    """A checkpoint's normalisation, and the utilities [n] of the reference sample that it comes from."""

    method: str
    constants: Normalisation
    reference_utilities: np.ndarray


def draw_sample(selections: Sequence[Selection], n: int = SAMPLED_DOCUMENTS, seed: int = 0) -> Sample:
    """The first `n` documents of each group in the order of a seeded hash, every other one in the second half."""
    parts = []
    with open_database() as database:
        for group in dict.fromkeys(selection.group for selection in selections):
            own = [selection for selection in selections if selection.group == group]
            parameters = {**selection_parameters(own), "seed": str(seed), "n": n}
            found = pl.DataFrame(database.table("hashed_members", parameters))
            weight = pl.col("n_tokens") / pl.col("n_tokens").sum()
            parts.append(found.select(pl.lit(group).alias("group"), pl.all(), weight.alias("weight")))
    rows = pl.concat(parts)
    place = ["snapshot", "shard", "row"]
    documents = rows.unique([*place, "n_tokens", "key"]).sort("key", *place).select(*place, "n_tokens")
    numbered = documents.select(place).with_row_index("number").cast({"number": pl.Int64})
    members = rows.join(numbered, on=place, maintain_order="left")
    half = (pl.col("number") % 2).alias("half")  # a document's own: groups that share it have it in the same half
    return Sample(documents, members.select("group", "number", "weight", half, "n_members"))


def pools_of(sample: Sample, scaling: Scaling | None) -> Pools:
    """Two pools per group, one of each half of its sample, then `centre` and `scale` where utilities are normalised.

    The reference documents are numbered on from the sample's.
    """
    lengths = sample.documents["n_tokens"].to_list()
    predicting = sample.members.filter(pl.Series([lengths[number] > 1 for number in sample.members["number"]]))
    pools: Pools = {
        f"{group}|{half}": dict(part.select("number", "weight").iter_rows())
        for (group, half), part in predicting.group_by("group", "half", maintain_order=True)
    }
    if scaling is not None:
        first = sample.documents.height
        for name, weights in zip(
            ("centre", "scale"), constant_weights(scaling.method, scaling.reference_utilities), strict=True
        ):
            pools[name] = {first + number: float(weight) for number, weight in enumerate(weights) if weight}
    return pools


def contribution_table(checkpoint: str, pools: Pools, scores: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Rows of `contributions.parquet` for one checkpoint.

    Args:
        pools: as `pools_of` made them.
        scores: task -> [items, pools], as `score_items` gives them.
    """
    names, groups = list(pools), list(dict.fromkeys(name.rpartition("|")[0] for name in pools if "|" in name))
    parts = []
    for task, table in scores.items():
        of_pool = {name: table[:, place] for place, name in enumerate(names)}
        none = np.zeros(len(table))
        first = {group: of_pool.get(f"{group}|0", none) for group in groups}
        columns = {
            "checkpoint": [checkpoint] * len(table),
            "task": [task] * len(table),
            "item": np.arange(len(table)),
            **{GROUP_PREFIX + group: first[group] + of_pool.get(f"{group}|1", none) for group in groups},
            **{HALF_PREFIX + group: first[group] for group in groups},
            "centre": of_pool.get("centre", none),
            "scale": of_pool.get("scale", none),
        }
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def group_densities(selections: Sequence[Selection], joint: Sequence[JointShard]) -> pl.DataFrame:
    """`group, checkpoint, density`: mean utility per token of all of a group's documents at every checkpoint."""
    parts = []
    with open_database() as database:
        for shard in joint:
            files = [each for each in selections if (each.snapshot, each.shard) == (shard.snapshot, shard.shard)]
            if not files:
                continue
            groups = [{"file": str(each.path), "group": each.group} for each in files]
            parameters = {"joint": str(shard.path), "files": [row["file"] for row in groups], "groups": groups}
            parts.append(pl.DataFrame(database.table("group_utilities", parameters)))
    sums = pl.concat(parts).group_by("group", "checkpoint", maintain_order=True).sum()
    return sums.select("group", "checkpoint", (pl.col("utility_tokens") / pl.col("n_tokens")).alias("density"))


def sampled_utilities(sample: Sample, joint: Sequence[JointShard]) -> pl.DataFrame:
    """`group, checkpoint, utility`: the sample's token-weighted mean of what the joint influence files say."""
    paths = {(shard.snapshot, shard.shard): shard.path for shard in joint}
    numbered = sample.documents.with_row_index("number").cast({"number": pl.Int64})
    parts = [
        pl.read_parquet(paths[str(snapshot), str(shard)])
        .select(pl.col(f"^{UTILITY_PREFIX}.*$").gather(rows["row"].to_list()))
        .with_columns(rows["number"])
        for (snapshot, shard), rows in numbered.group_by("snapshot", "shard", maintain_order=True)
    ]
    utilities = pl.concat(parts).unpivot(index="number", variable_name="checkpoint", value_name="utility")
    joined = sample.members.join(utilities, on="number")
    mean = (pl.col("utility") * pl.col("weight")).sum()
    means = joined.group_by("group", "checkpoint", maintain_order=True).agg(mean)
    return means.with_columns(pl.col("checkpoint").str.strip_prefix(UTILITY_PREFIX))


def write_contributions(
    *,
    origins: Sequence[GroupOrigin],
    scalings: Mapping[str, Scaling] | None,
    sample: Sample,
    selections: Sequence[Selection],
    joint: Sequence[JointShard],
    contributions: Sequence[pl.DataFrame],
    out: Path,
) -> None:
    """Write `contributions.parquet`, `checkpoints.parquet` and `densities.parquet` (docs/tables.md)."""
    items = pl.concat(contributions)
    plain = Normalisation()
    constants = pl.DataFrame(
        [
            {
                "checkpoint": origin.name,
                "alpha": origin.alpha,
                "centre": (scalings[origin.name].constants if scalings else plain).center,
                "scale": (scalings[origin.name].constants if scalings else plain).scale,
            }
            for origin in origins
        ]
    )
    first_half = pl.col("weight").filter(pl.col("half") == 0).sum()
    drawn = sample.members.group_by("group").agg(
        pl.len().cast(pl.Int64).alias("n_sampled"),
        pl.col("n_members").first().alias("n_documents"),
        first_half.alias("first_half_share"),
    )
    scored = sampled_utilities(sample, joint).join(constants, on="checkpoint")
    raw = scored.select(
        "group", "checkpoint", (pl.col("utility") * pl.col("scale") + pl.col("centre")).alias("scored_utility")
    )
    densities = group_densities(selections, joint).join(drawn, on="group").join(raw, on=["group", "checkpoint"])
    carried = _carried(items)
    densities = densities.join(carried, on=["group", "checkpoint"]).sort("group", "checkpoint")
    items.write_parquet(out / CONTRIBUTIONS)
    constants.write_parquet(out / CHECKPOINTS)
    densities.write_parquet(out / DENSITIES)


def _carried(items: pl.DataFrame) -> pl.DataFrame:
    """`group, checkpoint, carried_utility, magnitude`: the items' sum, and the size of what adds up to it."""
    long = items.select("checkpoint", "task", pl.col(f"^{GROUP_PREFIX}.*$")).unpivot(
        index=["checkpoint", "task"], variable_name="group", value_name="carried"
    )
    of_task = long.group_by("checkpoint", "group", "task", maintain_order=True).agg(
        pl.col("carried").mean(), pl.col("carried").abs().mean().alias("magnitude")
    )
    means = of_task.group_by("checkpoint", "group", maintain_order=True).agg(
        pl.col("carried").mean().alias("carried_utility"), pl.col("magnitude").mean()
    )
    return means.with_columns(pl.col("group").str.strip_prefix(GROUP_PREFIX))
