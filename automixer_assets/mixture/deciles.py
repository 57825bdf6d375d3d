"""What do utilities prefer? Length, quality, sources and labels of documents by decile of utility (paper, Figure 5).

Deciles are of every group's utility and of the joint one, over all documents of the mixture's snapshots that have it,
excluded ones too. Their edges are exact (`thresholds`); everything else is added up a shard at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import UTILITY_PREFIX, utility_column
from automixer_assets.mixture.passes import THREADS, JointShard, Passes, passes_here, shard_parameters
from automixer_assets.mixture.regroup import candidate_totals, common_groups, group_candidates, kept_documents
from automixer_assets.mixture.sql import Database, open_database
from automixer_assets.mixture.thresholds import Rank, utilities_at_ranks

DECILES = 10
JOINT = "joint utility"
"""The ranking that is no group's."""
JOINT_COLUMN = "joint_utility"
UNLABELLED = "(no label)"
QUALITY = ("language_score", "score", "int_score")
LABELS_SCHEMA = {"doc_id": pl.String, "label": pl.String}


@dataclass(frozen=True)
class Labels:
    """What is known of documents, from outside.

    Attributes:
        table: doc_id, label; no document twice.
        planted: labels of the documents that a good utility ranks first.
    """

    table: pl.DataFrame
    planted: tuple[str, ...] = ()


NO_LABELS = Labels(pl.DataFrame(schema=LABELS_SCHEMA))


def read_labels(path: Path, *, column: str, id_column: str, planted: Sequence[str]) -> Labels:
    """Labels from a Parquet file, of any type that has a text.

    Raises:
        AutomixerError: a column is not there, a document has two labels, or no document has a planted one.
    """
    names = pl.scan_parquet(path).collect_schema().names()
    if missing := [name for name in (id_column, column) if name not in names]:
        raise AutomixerError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    texts = pl.scan_parquet(path).select(doc_id=pl.col(id_column).cast(pl.String), label=pl.col(column).cast(pl.String))
    table = texts.drop_nulls().unique(maintain_order=True).collect()
    twice = table.filter(pl.col("doc_id").is_duplicated())
    if not twice.is_empty():
        raise AutomixerError(f"{path} gives {twice['doc_id'][0]!r} two labels: {' and '.join(twice['label'][:2])}")
    if unknown := sorted(set(planted) - set(table["label"])):
        raise AutomixerError(f"{path} has no document labelled {unknown[0]!r}; correct `corpus.labels.planted`")
    return Labels(table, tuple(planted))


def write_deciles(
    *,
    joint: Sequence[JointShard],
    documents: Mapping[tuple[str, str], Path],
    labels: Labels,
    top_share: float,
    out: Path,
) -> None:
    """Write `deciles.parquet`, `decile_shares.parquet` and `retrieval.parquet` (docs/tables.md) into the folder `out`.

    Args:
        joint: joint_influence shards of the mixture's snapshots.
        documents: (snapshot, shard) -> the tokenised shard, row-aligned.
        top_share: of the mixture; retrieval is judged there.
    """
    passes = passes_here(joint)
    shards, files = passes.shards, shard_parameters(passes.shards)["files"]
    totals = ranked_documents(passes)
    edges = [row for name, total in totals.items() for row in decile_edges(passes, name, total)]
    with open_database(threads=THREADS) as database:
        tops = [{"column_name": name, "n_top": kept_documents(total, top_share)} for name, total in totals.items()]
        known = {"planted": list(labels.planted), "files": files, "tops": tops}
        retrieval = pl.DataFrame(database.table("planted_retrieval", known, labels=labels.table.to_arrow()))
    with open_database() as database:
        sums = [_sums(database, shard, documents[shard.snapshot, shard.shard], edges, labels) for shard in shards]
    counted = _in_order(pl.concat(sums), list(totals))
    _statistics(counted, pl.DataFrame(edges)).write_parquet(out / "deciles.parquet")
    _shares(counted, has_labels=not labels.table.is_empty()).write_parquet(out / "decile_shares.parquet")
    shown = retrieval if labels.planted else retrieval.clear()
    _rates(_in_order(shown, list(totals))).write_parquet(out / "retrieval.parquet")


def ranked_documents(passes: Passes) -> dict[str, int]:
    """Column of utilities -> how many documents have one: the joint utility first, then the groups in their order."""
    groups = common_groups(passes.shards)
    candidates = group_candidates(passes, groups)
    everything = candidate_totals(passes)["n_candidates"]
    return {JOINT_COLUMN: everything} | {utility_column(group): candidates[group]["n_candidates"] for group in groups}


def decile_edges(passes: Passes, column: str, total: int) -> list[dict[str, Any]]:
    """`[{column_name, decile, lower, upper}]`; 1 is the least useful, equal utilities are all in one decile."""
    shares = [Fraction(number, DECILES) for number in range(1, DECILES + 1)]
    ranks = [total - math.ceil(share * total) + 1 for share in shares]
    found = utilities_at_ranks(passes, [Rank(column, rank, total) for rank in ranks])
    edges = [-math.inf, *(each.utility for each in found)]
    return [
        {"column_name": column, "decile": number, "lower": lower, "upper": upper}
        for number, (lower, upper) in enumerate(pairwise(edges), start=1)
    ]


def _sums(
    database: Database, shard: JointShard, documents: Path, edges: list[dict[str, Any]], labels: Labels
) -> pl.DataFrame:
    parameters = {"joint": str(shard.path), "documents": str(documents), "snapshot": shard.snapshot, "edges": edges}
    sums = pl.DataFrame(database.table("decile_sums", parameters, labels=labels.table.to_arrow()))
    if (sums["n_misaligned"] > 0).any():
        raise AutomixerError(
            f"{shard.path} is not row-aligned with {documents}: {sums['n_misaligned'][0]} rows have different doc_ids; "
            "materialise joint_influence again"
        )
    return sums.drop("n_misaligned")


def _in_order(table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Column names as what a reader calls them, in the order of the groups, the joint utility first."""
    names = [JOINT if name == JOINT_COLUMN else name.removeprefix(UTILITY_PREFIX) for name in columns]
    place = pl.col("column_name").replace_strict(columns, range(len(columns)), return_dtype=pl.Int64)
    named = table.with_columns(place=place).sort("place", maintain_order=True)
    ranking = pl.col("column_name").replace_strict(columns, names, return_dtype=pl.String).alias("ranking")
    return named.select(ranking, pl.exclude("column_name", "place"))


def _statistics(counted: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
    """A row per ranking and decile, deciles without documents too."""
    sums = counted.group_by("ranking", "decile", maintain_order=True).agg(
        pl.col("^n_.*$").sum(), pl.col(*QUALITY).sum()
    )
    every = _in_order(edges, list(edges["column_name"].unique(maintain_order=True))).cast({"decile": pl.Int64})
    joined = every.join(sums.cast({"decile": pl.Int64}), on=["ranking", "decile"], how="left", maintain_order="left")
    finite = pl.when(pl.col("lower").is_finite()).then(pl.col("lower")).alias("lower")
    means = [pl.when(pl.col(f"n_{name}") > 0).then(pl.col(name) / pl.col(f"n_{name}")) for name in QUALITY]
    return joined.select(
        "ranking",
        "decile",
        finite,
        "upper",
        pl.col("n_documents").fill_null(0),
        (pl.col("n_tokens") / pl.col("n_documents")).alias("mean_tokens"),
        *(mean.alias(f"mean_{name}") for mean, name in zip(means, QUALITY, strict=True)),
    )


def _shares(counted: pl.DataFrame, *, has_labels: bool) -> pl.DataFrame:
    """Where the documents of a decile come from, and what they are labelled."""
    kinds = {"source": pl.col("source")} | ({"label": pl.col("label").fill_null(UNLABELLED)} if has_labels else {})
    found = [
        counted.group_by("ranking", "decile", value.alias("value"), maintain_order=True)
        .agg(pl.col("n_documents").sum())
        .select("ranking", pl.lit(kind).alias("kind"), pl.col("decile").cast(pl.Int64), "value", "n_documents")
        for kind, value in kinds.items()
    ]
    within = pl.col("n_documents").sum()
    return (
        pl.concat(found)
        .with_columns(
            (pl.col("n_documents") / within.over("ranking", "kind", "decile")).alias("share_of_decile"),
            (pl.col("n_documents") / within.over("ranking", "kind", "value")).alias("share_of_value"),
        )
        .sort(pl.col("ranking").rle_id(), "kind", "decile", "value", maintain_order=True)
    )


def _rates(retrieval: pl.DataFrame) -> pl.DataFrame:
    """Precision and recall of the top share, beside the precision of a random one."""
    return retrieval.with_columns(
        (pl.col("n_planted_top") / pl.col("n_top")).alias("precision"),
        (pl.col("n_planted_top") / pl.col("n_planted")).alias("recall"),
        (pl.col("n_planted") / pl.col("n_documents")).alias("precision_by_chance"),
    )
