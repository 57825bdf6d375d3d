"""One mixture, three ways: this package, straightforward DuckDB, polars streaming. Measured by `mixture_scale.py`.

Each engine reads the same influence files, writes the joint table and one table per group, and returns the same
figures. The other two are written as a person would from the paper: joins by doc_id, a quantile as the threshold, a
window or a sort to break ties, Appendix B's tables one after the other. Their tables are Parquet, too, so neither holds
a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path

import duckdb
import polars as pl

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.weights import GroupTable, appendix_b_weights, equation_weights, group_tables
from automixer_assets.scorers import write_scored_shard
from automixer_assets.scorers.influence import InfluenceScorer
from benchmarks.mixture_data import CHECKPOINTS, ScoredSet

TOP_SHARE = 0.5
MEMORY_LIMIT = "4GB"
THREADS = 2
STEPS = {checkpoint: int(checkpoint.rsplit("-", 1)[1]) for checkpoint in CHECKPOINTS}
ALPHAS = {checkpoint: step / sum(STEPS.values()) for checkpoint, step in STEPS.items()}
Stage = Callable[[str], AbstractContextManager[None]]
Figures = dict[str, dict[str, float]]
"""Kind of figure -> group, or pair of groups -> value."""


def ours(data: ScoredSet, out: Path, stage: Stage) -> Figures:
    """The functions that the assets call."""
    origins = tuple(GroupOrigin(each, each, STEPS[each], (), ALPHAS[each]) for each in CHECKPOINTS)
    columns = dict.fromkeys(CHECKPOINTS, data.columns)
    joint = []
    with stage("joint"):
        for shard in data.shards:
            folders = {each: {shard.snapshot: path.parent} for each, path in shard.influence.items()}
            tokens = TokenShard(shard.snapshot, shard.name, shard.documents.parent, "<u2")
            path = out / "joint" / shard.snapshot / f"{shard.name}.parquet"
            write_scored_shard(InfluenceScorer(origins, folders, columns), tokens, path)
            joint.append(JointShard(shard.snapshot, shard.name, path))
    with stage("thresholds and groups"):
        regroup(joint=joint, top_share=TOP_SHARE, out=out)
    with stage("densities and weights"):
        tables = group_tables(out)
    overlap = pl.read_parquet(out / "overlap.parquet")
    thresholds = dict(pl.read_parquet(out / "groups.parquet").select("group", "threshold").iter_rows())
    shared = {
        f"{group} {other}": count for group, other, count in overlap.select("group", "other", "n_documents").iter_rows()
    }
    return _figures(tables, thresholds, {f"{a} {b}": shared[f"{a} {b}"] for a, b in combinations(CHECKPOINTS, 2)})


def straightforward(data: ScoredSet, out: Path, stage: Stage) -> Figures:
    """DuckDB as the paper's appendix reads, under the same limits as ours."""
    config = {"threads": THREADS, "memory_limit": MEMORY_LIMIT, "temp_directory": str(out / "spill")}
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET enable_progress_bar = false")
        with stage("joint"):
            _duckdb_joint(connection, data, out)
        with stage("thresholds and groups"):
            overlap = _duckdb_groups(connection, data, out)
        with stage("densities and weights"):
            return _duckdb_weights(connection, overlap)


def _duckdb_table(connection: duckdb.DuckDBPyConnection, name: str, query: str, out: Path) -> None:
    connection.execute(f"COPY ({query}) TO '{out / name}.parquet' (COMPRESSION zstd)")
    connection.execute(f"CREATE VIEW \"{name}\" AS FROM read_parquet('{out / name}.parquet')")


def _duckdb_joint(connection: duckdb.DuckDBPyConnection, data: ScoredSet, out: Path) -> None:
    means = {each: " + ".join(f'CAST("{each}".{name} AS DOUBLE)' for name in data.columns) for each in CHECKPOINTS}
    utilities = {each: f"-({means[each]}) / {len(data.columns)}" for each in CHECKPOINTS}
    joins = "".join(
        f"JOIN read_parquet('{data.root}/influence/{each}/*/*.parquet') AS \"{each}\" USING (doc_id)\n"
        for each in CHECKPOINTS
    )
    columns = ", ".join(f'{utilities[each]} AS "utility__{each}"' for each in CHECKPOINTS)
    blend = " + ".join(f"{ALPHAS[each]!r} * ({utilities[each]})" for each in CHECKPOINTS)
    documents = f"read_parquet('{data.root}/documents/*/*.parquet') AS documents"
    query = (
        f"SELECT doc_id, documents.n_tokens, {columns}, {blend} AS joint_utility, -({blend}) AS joint_influence\n"
        f"FROM {documents}\n{joins}"
    )
    _duckdb_table(connection, "joint", query, out)


def _duckdb_groups(connection: duckdb.DuckDBPyConnection, data: ScoredSet, out: Path) -> dict[str, float]:
    keep = math.ceil(TOP_SHARE * data.n_documents)
    for each in CHECKPOINTS:
        query = f"""
            SELECT doc_id, n_tokens, "utility__{each}" AS utility, joint_utility
            FROM joint
            WHERE "utility__{each}" >= (SELECT quantile_cont("utility__{each}", {1 - TOP_SHARE}) FROM joint)
            QUALIFY row_number() OVER (ORDER BY "utility__{each}" DESC, doc_id) <= {keep}"""
        _duckdb_table(connection, each, query, out)
    return {
        f"{a} {b}": _scalar(connection, f'SELECT count(*) FROM "{a}" JOIN "{b}" USING (doc_id)')
        for a, b in combinations(CHECKPOINTS, 2)
    }


def _duckdb_weights(connection: duckdb.DuckDBPyConnection, overlap: dict[str, float]) -> Figures:
    members = " UNION ALL ".join(f'SELECT doc_id, utility FROM "{each}"' for each in CHECKPOINTS)
    connection.execute(
        f"CREATE TABLE totals AS SELECT doc_id, sum(utility) AS total_influence FROM ({members}) GROUP BY doc_id"
    )
    low = _scalar(connection, "SELECT min(total_influence) FROM totals")
    high = _scalar(connection, "SELECT max(total_influence) FROM totals")
    tables, thresholds = [], {}
    for each in CHECKPOINTS:
        row = connection.execute(
            f"""
            SELECT count(*), sum(n_tokens), sum(joint_utility * n_tokens) / sum(n_tokens), min(utility),
                sum((total_influence - $low) / ($high - $low) * n_tokens)
            FROM "{each}" JOIN totals USING (doc_id)""",
            {"low": low, "high": high},
        ).fetchall()[0]
        thresholds[each] = row[3]
        tables.append(GroupTable(each, row[0], int(row[1]), row[2], row[4] / float(row[1]), row[4]))
    return _figures(tables, thresholds, overlap)


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> float:
    return connection.execute(query).fetchall()[0][0]


def polars_streaming(data: ScoredSet, out: Path, stage: Stage) -> Figures:
    """The same with lazy frames and the streaming engine."""
    with stage("joint"):
        _polars_joint(data, out)
    with stage("thresholds and groups"):
        overlap = _polars_groups(data, out)
    with stage("densities and weights"):
        return _polars_weights(out, overlap)


def _polars_joint(data: ScoredSet, out: Path) -> None:
    joint = pl.scan_parquet(data.root / "documents/*/*.parquet").select("doc_id", "n_tokens")
    for each in CHECKPOINTS:
        utility = -pl.mean_horizontal(pl.col(data.columns).cast(pl.Float64)).alias(f"utility__{each}")
        scores = pl.scan_parquet(data.root / "influence" / each / "*/*.parquet").select("doc_id", utility)
        joint = joint.join(scores, on="doc_id")
    blend = pl.sum_horizontal([ALPHAS[each] * pl.col(f"utility__{each}") for each in CHECKPOINTS])
    joint = joint.with_columns(blend.alias("joint_utility"), (-blend).alias("joint_influence"))
    joint.sink_parquet(out / "joint.parquet", compression="zstd")


def _polars_groups(data: ScoredSet, out: Path) -> dict[str, float]:
    keep = math.ceil(TOP_SHARE * data.n_documents)
    for each in CHECKPOINTS:
        joint = pl.scan_parquet(out / "joint.parquet").select(
            "doc_id", "n_tokens", pl.col(f"utility__{each}").alias("utility"), "joint_utility"
        )
        threshold = joint.select(pl.col("utility").quantile(1 - TOP_SHARE, "lower")).collect(engine="streaming").item()
        kept = joint.filter(pl.col("utility") >= threshold).sort("utility", "doc_id", descending=[True, False])
        kept.head(keep).sink_parquet(out / f"{each}.parquet", compression="zstd")
    return {
        f"{a} {b}": _group(out, a)
        .join(_group(out, b), on="doc_id", how="semi")
        .select(pl.len())
        .collect(engine="streaming")
        .item()
        for a, b in combinations(CHECKPOINTS, 2)
    }


def _polars_weights(out: Path, overlap: dict[str, float]) -> Figures:
    members = pl.concat([_group(out, each).select("doc_id", "utility") for each in CHECKPOINTS])
    totals = members.group_by("doc_id").agg(pl.col("utility").sum().alias("total_influence"))
    totals.sink_parquet(out / "totals.parquet")
    totals = pl.scan_parquet(out / "totals.parquet")
    total = pl.col("total_influence")
    low, high = totals.select(total.min().alias("low"), total.max().alias("high")).collect(engine="streaming").row(0)
    tokens = pl.col("n_tokens")
    sums = (
        pl.len(),
        tokens.sum(),
        (pl.col("joint_utility") * tokens).sum(),
        pl.col("utility").min(),
        ((total - low) / (high - low) * tokens).sum().alias("product"),
    )
    tables, thresholds = [], {}
    for each in CHECKPOINTS:
        members = _group(out, each).join(totals, on="doc_id").select(*sums).collect(engine="streaming")
        count, n_tokens, utility_tokens, thresholds[each], product = members.row(0)
        tables.append(GroupTable(each, count, n_tokens, utility_tokens / n_tokens, product / n_tokens, product))
    return _figures(tables, thresholds, overlap)


def _group(out: Path, checkpoint: str) -> pl.LazyFrame:
    return pl.scan_parquet(out / f"{checkpoint}.parquet")


def _figures(tables: list[GroupTable], thresholds: dict[str, float], overlap: dict[str, float]) -> Figures:
    names = [table.name for table in tables]
    return {
        "threshold": thresholds,
        "documents": {table.name: table.n_documents for table in tables},
        "tokens": {table.name: table.n_tokens for table in tables},
        "documents in both": overlap,
        "density": {table.name: table.density for table in tables},
        "token product": {table.name: table.token_product for table in tables},
        "weight": dict(zip(names, equation_weights(tables, "error"), strict=True)),
        "weight by Appendix B": dict(zip(names, appendix_b_weights(tables), strict=True)),
    }


ENGINES = {"ours": ours, "duckdb": straightforward, "polars": polars_streaming}
