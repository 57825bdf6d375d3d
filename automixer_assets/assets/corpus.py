"""Corpus assets: what the snapshots hold, as documents and as tokens, and the items and samples that queries need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets import metadata
from automixer_assets.corpus.inventory import INVENTORY_VERSION, read_texts, source_files, take_inventory
from automixer_assets.corpus.reference import write_reference_sample
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.corpus.tokenize import TOKENIZE_VERSION, tokenize_snapshot
from automixer_assets.lake import Artifact, folder_digest
from automixer_assets.lake_asset import Build, Check, CheckOutcome, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.partitions import SNAPSHOTS
from automixer_assets.settings import Settings, Tasks

GROUP = "corpus"


def corpus_assets(settings: Settings) -> list[LakeAsset]:
    """The five assets that every proxy and mixture shares."""
    return [
        lake_asset(
            asset="snapshot_inventory",
            group=GROUP,
            kinds={"parquet", "duckdb"},
            code=INVENTORY_VERSION,
            plan=plan_snapshot_inventory,
            partitions_def=SNAPSHOTS,
            checks=[Check("one_row_per_document", "No document id occurs twice.", check_unique_documents)],
        ),
        lake_asset(
            asset="tokenizer",
            group=GROUP,
            kinds={"huggingface"},
            code="1",
            plan=plan_tokenizer,
            deps=_fixed_snapshots("snapshot_inventory", settings.tokenizer.snapshots),
        ),
        lake_asset(
            asset="tokenized_corpus",
            group=GROUP,
            kinds={"parquet", "polars"},
            code=TOKENIZE_VERSION,
            plan=plan_tokenized_corpus,
            partitions_def=SNAPSHOTS,
            deps=["snapshot_inventory", "tokenizer"],
            checks=[Check("tokens_match_documents", "Token offsets and lengths cover each shard exactly.", check_tokens)],
        ),
        lake_asset(
            asset="validation_items",
            group=GROUP,
            kinds={"lm-eval", "parquet"},
            code="1",
            plan=plan_validation_items,
            deps=["tokenizer"],
            checks=[Check("item_sets_disjoint", "Gradient, selection and final items share nothing.", check_disjoint)],
        ),
        lake_asset(
            asset="reference_sample",
            group=GROUP,
            kinds={"parquet", "polars"},
            code="1",
            plan=plan_reference_sample,
            deps=_fixed_snapshots("tokenized_corpus", settings.reference_sample.snapshots),
        ),
    ]


def plan_snapshot_inventory(scope: Scope) -> Build:
    """Which documents does this snapshot hold, and which rows were rejected, and why?

    One row per document with its carried source columns, and a quarantine table of bad rows with reasons.
    """
    folder = _snapshot_folder(scope, scope.key)
    files = source_files(folder)

    def write(out: Path) -> None:
        with scope.progress(sum(_rows(file.path) for file in files), "rows") as progress:
            take_inventory(
                folder,
                out,
                documents_per_shard=scope.settings.corpus.documents_per_shard,
                on_progress=progress.advance,
            )

    fingerprint = [[file.name, file.size, file.mtime_ns] for file in files]
    return scope.build(write, show_snapshot_inventory, settings=[scope.settings.corpus.documents_per_shard, fingerprint])


def show_snapshot_inventory(artifact: Artifact) -> Metadata:
    documents = pl.scan_parquet(artifact.path / "documents" / "*.parquet")
    totals = documents.select(
        documents=pl.len(), shards=pl.struct("file").n_unique(), mean_characters=pl.col("n_characters").mean()
    ).collect()
    copies = documents.select(pl.len() - pl.col("content_hash").n_unique()).collect().item()
    languages = documents.group_by("language").len("documents").sort("documents", descending=True).collect()
    quarantine = pl.read_parquet(artifact.path / "quarantine.parquet")
    return {
        "dagster/row_count": totals["documents"].item(),
        "documents": totals["documents"].item(),
        "quarantined rows": quarantine.height,
        "exact copies": copies,
        "mean characters": totals["mean_characters"].item(),
        "files": metadata.table(pl.read_parquet(artifact.path / "files.parquet")),
        "languages": metadata.table(languages),
        "quarantine by reason": metadata.table(quarantine.group_by("reason").len("rows").sort("reason")),
        "quarantine, first rows": metadata.table(quarantine.head(10)),
        "document length": metadata.plot(
            lambda axes: _histogram(axes, documents.select("n_characters").collect().to_series(), "characters")
        ),
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


def check_unique_documents(artifact: Artifact) -> CheckOutcome:
    ids = pl.scan_parquet(artifact.path / "documents" / "*.parquet").select("doc_id")
    rows, distinct = ids.select(pl.len(), pl.col("doc_id").n_unique().alias("distinct")).collect().row(0)
    return CheckOutcome(rows == distinct, f"{rows:,} rows, {distinct:,} distinct ids")


def plan_tokenizer(scope: Scope) -> Build:
    """Which tokenizer turns text into ids, and how well does it compress the corpus?

    A byte-level BPE trained on fixed snapshots, or a local Hugging Face tokenizer as it is.
    """
    chosen = scope.settings.tokenizer
    if chosen.path is not None:
        source = scope.automixer.resolve(chosen.path)
        return scope.build(lambda out: _copy_tokenizer(source, out), show_tokenizer, settings=folder_digest(source))
    inventories = {snapshot: scope.pin("snapshot_inventory", snapshot) for snapshot in chosen.snapshots}
    folders = {snapshot: _snapshot_folder(scope, snapshot) for snapshot in inventories}

    def texts():
        remaining = chosen.max_documents
        for snapshot, inventory in inventories.items():
            for path in sorted((inventory.path / "documents").glob("*.parquet")):
                documents = pl.read_parquet(path).head(remaining)
                remaining -= documents.height
                yield from read_texts(folders[snapshot], documents)

    def write(out: Path) -> None:
        from automixer_assets.proxy.tokenizer import train_tokenizer

        train_tokenizer(texts(), chosen.vocab_size, out)

    return scope.build(write, show_tokenizer, settings=chosen.model_dump())


def show_tokenizer(artifact: Artifact) -> Metadata:
    from automixer_assets.proxy.tokenizer import load_tokenizer, tokenizer_digest

    tokenizer = load_tokenizer(artifact.path)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    longest = sorted((token for token, _ in vocabulary), key=len, reverse=True)[:20]
    return {
        "vocabulary": len(tokenizer),
        "tokenizer digest": tokenizer_digest(artifact.path),
        "longest tokens": ", ".join(longest).replace("Ġ", "␣"),
        "end of document": str(tokenizer.eos_token),
    }


def plan_tokenized_corpus(scope: Scope) -> Build:
    """How many tokens does this snapshot hold, and how long are its documents?

    Token shards, memory-mappable, row-aligned with the inventory's documents.
    """
    inventory, tokenizer = scope.pin("snapshot_inventory", scope.key), scope.pin("tokenizer")
    folder = _snapshot_folder(scope, scope.key)

    def write(out: Path) -> None:
        documents = pl.scan_parquet(inventory.path / "documents" / "*.parquet").select(pl.len()).collect().item()
        with scope.progress(documents, "documents") as progress:
            tokenize_snapshot(
                inventory.path, folder, tokenizer.path, out, snapshot=scope.key, on_progress=progress.advance
            )

    return scope.build(write, show_tokenized_corpus, resumable=True)


def show_tokenized_corpus(artifact: Artifact) -> Metadata:
    shards = pl.scan_parquet(artifact.path / "shard-*.parquet")
    counts = shards.select("n_tokens", "n_characters").collect()
    snapshot = open_tokenized(artifact.path)
    return {
        "dagster/row_count": counts.height,
        "documents": counts.height,
        "tokens": int(counts["n_tokens"].sum()),
        "tokens per document": metadata.table(_quantiles(counts["n_tokens"])),
        "characters per token": float(counts["n_characters"].sum() / counts["n_tokens"].sum()),
        "shards": len(snapshot.shard_names),
        "id type": snapshot.dtype,
        "document length": metadata.plot(lambda axes: _histogram(axes, counts["n_tokens"], "tokens")),
        "dagster/column_schema": metadata.columns(
            [
                ("doc_id", "string", "the source's id"),
                ("n_tokens", "int64", "ids of the document, end-of-document included"),
                ("offset", "int64", "index of the first id in the shard's .bin file"),
                ("content_hash … licence", "", "as in snapshot_inventory"),
            ]
        ),
    }


def check_tokens(artifact: Artifact) -> CheckOutcome:
    for shard in open_tokenized(artifact.path).shards:
        documents = shard.documents
        expected = (documents["n_tokens"].cum_sum() - documents["n_tokens"]).to_list()
        if documents["offset"].to_list() != expected or int(documents["n_tokens"].sum()) != len(shard.tokens):
            return CheckOutcome(False, f"{shard.name}: offsets do not cover its {len(shard.tokens):,} tokens")
    return CheckOutcome(True, "every document's ids lie where its row says")


def plan_validation_items(scope: Scope) -> Build:
    """Which benchmark items steer the mixture, and are those that judge it kept apart?

    Gradient items as lm-eval renders them, tokenised with masks, and the three disjoint item sets by hash.
    """
    tokenizer = scope.pin("tokenizer")
    tasks = scope.settings.tasks
    folder = scope.automixer.resolve(tasks.directory) if tasks.directory else None

    def write(out: Path) -> None:
        from automixer_assets.benchmark.items import write_validation_items

        write_validation_items(tasks, folder=folder, tokenizer_folder=tokenizer.path, out=out, seed=scope.settings.seed)

    return scope.build(write, show_validation_items, settings=[tasks_slice(tasks, folder), scope.settings.seed])


def show_validation_items(artifact: Artifact) -> Metadata:
    items = pl.read_parquet(artifact.path / "gradient_items.parquet")
    sets = pl.read_parquet(artifact.path / "item_sets.parquet")
    counts = sets.pivot("item_set", index="task", values="item_hash", aggregate_function="len").sort("task")
    lengths = items.group_by("task").agg(
        pl.col("token_ids").list.len().mean().alias("mean tokens"),
        pl.col("answer_mask").list.sum().mean().alias("mean answer tokens"),
    )
    examples = items.group_by("task", maintain_order=True).first().select("task", "text")
    return {
        "items per set": metadata.table(counts.join(lengths, on="task", how="left").sort("task")),
        "one item per task": metadata.table(examples),
        "gradient items": items.height,
    }


def check_disjoint(artifact: Artifact) -> CheckOutcome:
    sets = pl.read_parquet(artifact.path / "item_sets.parquet")
    shared = sets.group_by("task", "item_hash").agg(pl.col("item_set").n_unique().alias("sets")).filter(pl.col("sets") > 1)
    return CheckOutcome(shared.is_empty(), f"{sets.height:,} items, {shared.height} in more than one set")


def plan_reference_sample(scope: Scope) -> Build:
    """Which frozen documents fix the curvature and the normalisation constants?

    A seeded sample of fixed snapshots: a new snapshot never changes an old score.
    """
    chosen = scope.settings.reference_sample
    corpora = [scope.pin("tokenized_corpus", snapshot) for snapshot in chosen.snapshots]

    def write(out: Path) -> None:
        snapshots = [open_tokenized(corpus.path) for corpus in corpora]
        write_reference_sample(snapshots, documents=chosen.documents, seed=scope.settings.seed, out=out)

    return scope.build(write, show_reference_sample, settings=[chosen.documents, scope.settings.seed])


def show_reference_sample(artifact: Artifact) -> Metadata:
    sample = pl.read_parquet(artifact.path / "reference.parquet")
    lengths = sample["token_ids"].list.len()
    return {
        "dagster/row_count": sample.height,
        "documents per snapshot": metadata.table(sample.group_by("snapshot").len("documents").sort("snapshot")),
        "tokens": int(lengths.sum()),
        "document length": metadata.plot(lambda axes: _histogram(axes, lengths, "tokens")),
    }


def tasks_slice(tasks: Tasks, folder: Path | None) -> object:
    """What of the task settings determines items and results: the choice and the files, not where they lie."""
    chosen = tasks.model_dump(exclude={"directory", "batch_size"})
    return [chosen, folder_digest(folder) if folder is not None and folder.is_dir() else None]


def _fixed_snapshots(asset: str, snapshots: Sequence[str]) -> list[dg.AssetDep]:
    """A dependency on named snapshots only, so that a new one makes nothing stale."""
    if not snapshots:
        return []
    return [dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping(list(snapshots)))]


def _snapshot_folder(scope: Scope, snapshot: str) -> Path:
    return scope.automixer.resolve(scope.settings.corpus.directory) / snapshot


def _rows(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowInvalid, OSError):
        return 0  # take_inventory names the file and the remedy


def _copy_tokenizer(source: Path, out: Path) -> None:
    from automixer_assets.proxy.tokenizer import load_tokenizer

    load_tokenizer(source).save_pretrained(out)


def _quantiles(values: pl.Series) -> pl.DataFrame:
    points = {"min": 0.0, "p5": 0.05, "median": 0.5, "mean": None, "p95": 0.95, "max": 1.0}
    row = {name: values.mean() if q is None else values.quantile(q, "nearest") for name, q in points.items()}
    return pl.DataFrame([row])


def _histogram(axes, values: pl.Series, label: str) -> None:
    axes.hist(values.to_numpy(), bins=50, color=metadata.PALETTE[0])
    axes.set_xlabel(f"{label} per document")
    axes.set_ylabel("documents")
