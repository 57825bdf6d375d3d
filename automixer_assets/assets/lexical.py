"""Assets that count words: cheap scores of documents for tasks, for strategies that need no model."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from automixer_assets.assets.corpus import restored_sources
from automixer_assets.corpus.inventory import text_batches, verify_sources
from automixer_assets.corpus.lexical import LEXICAL_VERSION, LexicalQuery, fit_lexical, score_texts
from automixer_assets.corpus.reference import read_reference_sample
from automixer_assets.files import atomic_path
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.pages.lexical import show_lexical_query, show_lexical_scores
from automixer_assets.partitions import SNAPSHOTS

GROUP = "corpus"


def lexical_assets() -> list[LakeAsset]:
    """The word models of tasks and corpus, and per snapshot the scores by them."""
    return [
        lake_asset(
            asset="lexical_query",
            group=GROUP,
            kinds={"numpy", "safetensors"},
            code=LEXICAL_VERSION,
            plan=plan_lexical_query,
            deps=["tokenizer", "validation_items", "reference_sample"],
        ),
        lake_asset(
            asset="lexical_scores",
            group=GROUP,
            kinds={"numpy", "parquet"},
            code=LEXICAL_VERSION,
            plan=plan_lexical_scores,
            partitions_def=SNAPSHOTS,
            deps=["snapshot_inventory", "lexical_query"],
        ),
    ]


def plan_lexical_query(scope: Scope) -> Build:
    """Which words tell a task's items from the corpus?

    Word models of the tasks' gradient items and of the reference sample, whose own scores lie beside them.
    """
    tokenizer = scope.pin("tokenizer")
    items, sample = scope.pin("validation_items"), scope.pin("reference_sample")

    def write(out: Path) -> None:
        from automixer_assets.proxy.tokenizer import load_tokenizer

        gradient = pl.read_parquet(items.path / "gradient_items.parquet", columns=["task", "text"])
        texts = {str(task): rows["text"].to_list() for (task,), rows in gradient.group_by("task", maintain_order=True)}
        decode = load_tokenizer(tokenizer.path).batch_decode
        reference = decode(read_reference_sample(sample.path), skip_special_tokens=True)
        query = fit_lexical(texts, reference)
        query.save(out)
        ids = pl.read_parquet(sample.path / "reference.parquet", columns=["doc_id"])["doc_id"]
        scores = score_texts(query, pl.Series(reference, dtype=pl.String))
        scores.insert_column(0, ids).write_parquet(out / "reference_scores.parquet")

    return scope.build(write, show_lexical_query)


def plan_lexical_scores(scope: Scope) -> Build:
    """How close is each document of this snapshot to the tasks in its words?

    One row per document: n-gram importance weights and BM25 per task; no model is run.
    """
    inventory, query = scope.pin("snapshot_inventory", scope.key), scope.pin("lexical_query")

    def write(out: Path) -> None:
        folder = restored_sources(scope, scope.key, inventory.by_file)
        verify_sources(folder, pl.read_parquet(inventory.file("files.parquet")))
        words = LexicalQuery.load(query.path)
        shards = sorted((inventory.by_file / "documents").glob("shard-*.parquet"))
        with scope.progress(len(shards), "shards") as progress:
            for path in shards:
                if not (out / path.name).exists():
                    documents = pl.read_parquet(path)
                    scores = pl.concat(score_texts(words, texts) for texts in text_batches(folder, documents))
                    with atomic_path(out / path.name) as temporary:
                        scores.insert_column(0, documents["doc_id"]).write_parquet(temporary)
                progress.advance(1)

    return scope.build(write, show_lexical_scores, resumable=True)
