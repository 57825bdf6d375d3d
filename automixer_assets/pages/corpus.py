"""Pages of the corpus assets."""

from __future__ import annotations

import polars as pl

from automixer_assets import metadata
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata


def show_snapshot_inventory(artifact: Artifact) -> Metadata:
    shards = str(artifact.path / "documents" / "*.parquet")
    documents = pl.scan_parquet(shards)
    n_documents, n_contents, characters = (
        documents.select(pl.len(), pl.col("content_hash").n_unique().alias("contents"), pl.col("n_characters").mean())
        .collect()
        .row(0)
    )
    languages = documents.group_by("language").len("documents").sort("documents", descending=True).collect()
    quarantine = pl.read_parquet(artifact.path / "quarantine.parquet")
    lengths = metadata.sample(shards, ["n_characters"])["n_characters"]
    return {
        "dagster/row_count": n_documents,
        "documents": n_documents,
        "quarantined rows": quarantine.height,
        "quarantine by reason": metadata.table(quarantine.group_by("reason").len("rows").sort("reason")),
        "quarantine, first rows": metadata.table(quarantine.head(10)),
        "exact copies": n_documents - n_contents,
        "mean characters": round(characters),
        "document length": metadata.histogram(lengths, "characters per document"),
        "files": metadata.table(pl.read_parquet(artifact.path / "files.parquet")),
        "languages": metadata.table(languages),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("file", "string", "source file below the snapshot's folder"),
                ("row", "int64", "row in that file"),
                ("content_hash", "string", "xxh3-128 of the text"),
                ("n_characters", "int64", "length of the text"),
                ("url … licence", "", "carried through from the source, null where absent"),
            ]
        ),
    }


def show_tokenizer(artifact: Artifact) -> Metadata:
    from automixer_assets.proxy.tokenizer import load_tokenizer, tokenizer_digest

    tokenizer = load_tokenizer(artifact.path)
    longest = sorted(tokenizer.get_vocab(), key=lambda token: (-len(token), token))[:30]
    return {
        "vocabulary": len(tokenizer),
        "end of document": str(tokenizer.eos_token),
        "longest tokens": ", ".join(longest).replace("Ġ", "␣"),
        "tokenizer digest": tokenizer_digest(artifact.path),
    }


def show_tokenized_corpus(artifact: Artifact) -> Metadata:
    shards = str(artifact.path / "shard-*.parquet")
    n_documents, n_tokens, n_characters = (
        pl.scan_parquet(shards)
        .select(pl.len(), pl.col("n_tokens").sum(), pl.col("n_characters").sum())
        .collect()
        .row(0)
    )
    lengths = metadata.sample(shards, ["n_tokens"])["n_tokens"]
    snapshot = open_tokenized(artifact.path)
    return {
        "dagster/row_count": n_documents,
        "documents": n_documents,
        "tokens": n_tokens,
        "characters per token": n_characters / n_tokens,
        "tokens per document": metadata.table(_quantiles(lengths)),
        "document length": metadata.histogram(lengths, "tokens per document"),
        "shards": len(snapshot.shard_names),
        "id type": snapshot.dtype,
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_tokens", "int64", "ids of the document, end-of-document included"),
                ("offset", "int64", "index of the first id in the shard's .bin file"),
                ("content_hash … licence", "", "as in snapshot_inventory"),
            ]
        ),
    }


def show_validation_items(artifact: Artifact) -> Metadata:
    items = pl.read_parquet(artifact.path / "gradient_items.parquet")
    sets = pl.read_parquet(artifact.path / "item_sets.parquet")
    counts = sets.pivot("item_set", index="task", values="item_hash", aggregate_function="len")
    lengths = items.group_by("task").agg(
        pl.col("token_ids").list.len().mean().alias("mean tokens"),
        pl.col("answer_mask").list.sum().mean().alias("mean answer tokens"),
    )
    examples = items.group_by("task", maintain_order=True).first().select("task", "text")
    return {
        "gradient items": items.height,
        "items per set": metadata.table(counts.join(lengths, on="task", how="left").sort("task")),
        "one item per task": metadata.table(examples),
    }


def show_reference_sample(artifact: Artifact) -> Metadata:
    reference = pl.read_parquet(artifact.path / "reference.parquet")
    lengths = reference["token_ids"].list.len()
    return {
        "dagster/row_count": reference.height,
        "documents per snapshot": metadata.table(reference.group_by("snapshot").len("documents").sort("snapshot")),
        "tokens": int(lengths.sum()),
        "document length": metadata.histogram(lengths, "tokens per document"),
    }


def _quantiles(values: pl.Series) -> pl.DataFrame:
    points = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
    return pl.DataFrame([{name: values.quantile(q, "nearest") for name, q in points.items()} | {"mean": values.mean()}])
