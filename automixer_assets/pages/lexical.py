"""Pages of the assets that count words."""

from __future__ import annotations

import polars as pl

from automixer_assets import metadata
from automixer_assets.corpus.lexical import POOLED, LexicalQuery
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata


def show_lexical_query(artifact: Artifact) -> Metadata:
    query = LexicalQuery.load(artifact.path)
    scores = pl.read_parquet(artifact.path / "reference_scores.parquet")
    rows = [
        {
            "task": task,
            "reference documents closer to it than to the corpus": (scores[f"ngram_{task}"] > 0).mean(),
            "its words": int((weights > 0).sum()),
        }
        for task, weights in zip(query.tasks, query.term_weights, strict=True)
    ]
    return {
        "what sets tasks apart": metadata.table(pl.DataFrame(rows)),
        "reference documents": scores.height,
        "words per reference document": query.mean_words,
    }


def show_lexical_scores(artifact: Artifact) -> Metadata:
    files = str(artifact.path / "shard-*.parquet")
    names = pl.scan_parquet(files).collect_schema().names()
    tasks = [name.removeprefix("bm25_") for name in names if name.startswith("bm25_")]
    sampled = metadata.sample(files, [name for name in names if name != "doc_id"])
    rate = sampled.filter(pl.col("n_ngrams") > 0).select(pl.col(f"ngram_{POOLED}") / pl.col("n_ngrams")).to_series()
    ranked = [
        {
            "task": task,
            "mean log importance weight": sampled[f"ngram_{task}"].mean(),
            "mean BM25": sampled[f"bm25_{task}"].mean(),
        }
        for task in tasks
    ]
    return {
        "dagster/row_count": pl.scan_parquet(files).select(pl.len()).collect().item(),
        "how close to the tasks, per n-gram (above 0: closer than to the corpus)": metadata.histogram(
            rate, "log importance weight per n-gram"
        ),
        "by task": metadata.table(pl.DataFrame(ranked)),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_ngrams", "int64", "words and pairs of neighbouring words"),
                (
                    "ngram_TASK, ngram_all",
                    "double",
                    "log importance weight towards the task, or the mean of all tasks' models",
                ),
                ("bm25_TASK", "double", "Okapi BM25 with the task's items as query"),
            ]
        ),
    }
