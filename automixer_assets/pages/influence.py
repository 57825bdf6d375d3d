"""Pages of the influence assets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.corpus.shards import TokenShard, open_tokenized
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES = 4
EXAMPLE_TOKENS = 48


def show_influence_query(artifact: Artifact) -> Metadata:
    scores = pl.read_parquet(artifact.path / "reference_scores.parquet")
    columns = [name for name in scores.columns if name.startswith("influence_")]
    labels = [name.removeprefix("influence_") for name in columns]
    correlation = scores.select(columns).corr().to_numpy()

    def draw(axes: Axes) -> None:
        image = axes.imshow(correlation, vmin=-1, vmax=1, cmap="RdBu_r")
        axes.figure.colorbar(image, ax=axes)
        axes.grid(False)
        axes.set_xticks(range(len(labels)), [str(index) for index in range(len(labels))])
        axes.set_yticks(range(len(labels)), [f"{label} {index}" for index, label in enumerate(labels)], fontsize=6)

    return {
        "what each task asks for": metadata.table(_strengths(artifact)),
        "do tasks agree? (correlation)": metadata.plot(draw, height=4.0),
        "influence of the reference documents": metadata.table(_summary(scores, columns)),
        "reference documents": scores.height,
    }


def _strengths(artifact: Artifact) -> pl.DataFrame:
    """Per direction the norm of the task's mean gradient and the damping, by layer."""
    sidecar = json.loads((artifact.path / "query.json").read_text())
    return pl.DataFrame(
        [
            {
                "direction": direction["name"],
                **{f"|v|, {layer}": norm for layer, norm in direction["v_norm"].items()},
                **{f"lambda, {layer}": value for layer, value in direction["lambda"].items()},
            }
            for direction in sidecar["directions"]
        ]
    )


def show_checkpoint_influence(artifact: Artifact, corpus: Artifact, checkpoint: Artifact) -> Metadata:
    files = str(artifact.path / "shard-*.parquet")
    scan = pl.scan_parquet(files)
    columns = [name for name in scan.collect_schema().names() if name.startswith("influence_")]
    documents, tokens, loss = scan.select(pl.len(), pl.col("n_tokens").sum(), pl.col("loss").mean()).collect().row(0)
    scores = metadata.sample(files, ["n_tokens", *columns])
    pooled = scores.select("n_tokens", utility=-pl.mean_horizontal(*columns))
    rank = pooled.select(pl.corr("utility", "n_tokens", method="spearman")).item()
    return {
        "dagster/row_count": documents,
        "documents": documents,
        "tokens": tokens,
        "tokens per second": round(tokens / max(artifact.seconds, 1e-9)),
        "mean loss": loss,
        "most and least useful documents": metadata.table(_examples(artifact, columns, corpus, checkpoint)),
        "utility, mean over directions (= - influence)": metadata.histogram(
            pooled["utility"],
            "utility",
            mark=metadata.number(pooled["utility"].median()),
            note="median: a top share of 50 % lies to the right",
        ),
        "influence by direction (paper's sign: negative helps)": metadata.table(_summary(scores, columns)),
        "rank correlation of utility with length": metadata.number(rank),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_tokens", "int64", "ids of the document"),
                ("loss", "float32", "mean next-token loss at this checkpoint, nats"),
                *[(name, "float32", "influence on that task's loss; negative helps") for name in columns],
            ]
        ),
    }


def _summary(scores: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "direction": name.removeprefix("influence_"),
                **{f"p{q}": scores[name].quantile(q / 100, "nearest") for q in (1, 25, 50, 75, 99)},
                "helpful share": metadata.number((scores[name] < 0).mean()),
            }
            for name in columns
        ]
    )


def _examples(artifact: Artifact, columns: list[str], corpus: Artifact, checkpoint: Artifact) -> pl.DataFrame:
    """How the documents at both ends of the utility scale begin; one shard in memory at a time."""
    from automixer_assets.proxy.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(checkpoint.path)
    shards = {shard.name: shard for shard in open_tokenized(corpus.by_file).shards}
    ends = pl.concat(_both_ends(artifact, name, columns) for name in shards).sort("utility", descending=True)
    chosen = pl.concat([ends.head(EXAMPLES), ends.tail(EXAMPLES)])
    return pl.DataFrame(
        [
            {"utility": utility, "the document begins": str(tokenizer.decode(_beginning(shards[shard], row)))}
            for shard, row, utility in chosen.select("shard", "row", "utility").iter_rows()
        ]
    )


def _both_ends(artifact: Artifact, shard: str, columns: list[str]) -> pl.DataFrame:
    scores = pl.read_parquet(artifact.path / f"{shard}.parquet", columns=columns)
    utilities = scores.select(pl.lit(shard).alias("shard"), utility=-pl.mean_horizontal(*columns)).with_row_index("row")
    ordered = utilities.sort("utility", "row", descending=[True, False])
    return pl.concat([ordered.head(EXAMPLES), ordered.tail(EXAMPLES)]).unique(maintain_order=True)


def _beginning(shard: TokenShard, row: int) -> list[int]:
    return shard.document_tokens(row)[:EXAMPLE_TOKENS].tolist()
