"""Pages of the assets that say which documents mixtures should not use."""

from __future__ import annotations

import polars as pl

from automixer_assets import metadata
from automixer_assets.corpus.leakage import NGRAM_WORDS, SHORTEST_ITEM_WORDS, checkable_texts
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata

SHOWN = 20


def show_scored_items(artifact: Artifact) -> Metadata:
    items = pl.read_parquet(artifact.path / "scored_items.parquet")
    checkable = set(checkable_texts(items)["item"])
    flagged = items.with_columns(pl.Series("checkable", [row in checkable for row in range(len(items))], pl.Boolean))
    counts = flagged.group_by("task", "item_set").agg(
        pl.len().alias("items"), pl.col("checkable").not_().sum().alias("too short to look for")
    )
    return {
        "dagster/row_count": items.height,
        "scored items": items.height,
        "too short to look for": items.height - len(checkable),
        "per task": metadata.table(counts.sort("task", "item_set")),
        "too short, first ones": metadata.table(
            flagged.filter(pl.col("checkable").not_()).select("task", "item_set", "text").head(SHOWN)
        ),
        "how items are looked for": (
            f"all sequences of {NGRAM_WORDS} words; items of {SHORTEST_ITEM_WORDS} to {NGRAM_WORDS - 1} words as a "
            f"whole; shorter ones not at all"
        ),
        "dagster/column_schema": metadata.columns(
            [
                ("task", "string", "lm-eval task"),
                ("item_set", "string", "selection or final"),
                ("item_hash", "string", "as in validation_items"),
                ("text", "string", "question and gold answer, without few-shot examples"),
                ("question", "string", "what the model is given before the answer"),
            ]
        ),
    }


def show_leakage(artifact: Artifact) -> Metadata:
    documents = pl.scan_parquet(artifact.path / "shard-*.parquet")
    leaked = documents.filter(pl.col("n_ngrams") > 0)
    n_documents, n_leaked = documents.select(pl.len(), (pl.col("n_ngrams") > 0).sum().alias("leaked")).collect().row(0)
    by_task = leaked.group_by("task", "item_set").agg(
        pl.len().alias("documents"), pl.col("item_hash").n_unique().alias("items")
    )
    words = leaked.group_by("shared_words").agg(pl.len().alias("documents"))
    return {
        "dagster/row_count": n_documents,
        "documents": n_documents,
        "documents that repeat a scored item": n_leaked,
        "share": n_leaked / n_documents if n_documents else 0.0,
        "by task (of the item that a document shares most with)": metadata.table(
            by_task.collect().sort("task", "item_set")
        ),
        "shared words in most documents (common phrases are false alarms)": metadata.table(
            words.sort("documents", "shared_words", descending=[True, False]).head(SHOWN).collect()
        ),
        "documents that share most": metadata.table(
            leaked.sort("n_ngrams", "doc_id", descending=[True, False]).head(SHOWN).drop("item_hash").collect()
        ),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_ngrams", "int64", "different word sequences shared with scored items; 0: none"),
                ("n_items", "int64", "scored items that it shares some with"),
                ("task, item_set, item_hash", "string", "the item that it shares most with"),
                ("shared_words", "string", "the first sequence that is shared"),
            ]
        ),
    }


def show_removed_documents(artifact: Artifact) -> Metadata:
    removed = pl.read_parquet(artifact.path / "removed.parquet")
    unmatched = pl.read_parquet(artifact.path / "unmatched.parquet")
    return {
        "dagster/row_count": removed.height,
        "removed documents": removed.select("shard", "row").n_unique(),
        "by kind of entry": metadata.table(
            removed.group_by("kind")
            .agg(
                pl.col("entry").n_unique().alias("entries"),
                pl.struct("shard", "row").n_unique().alias("documents"),
            )
            .sort("kind")
        ),
        "first ones": metadata.table(removed.drop("row").head(SHOWN)),
        "entries that name no document of this snapshot": unmatched.height,
        "such entries, first ones": metadata.table(unmatched.head(SHOWN)),
    }
