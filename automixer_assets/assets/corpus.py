"""Corpus assets: what the snapshots hold, as documents and as tokens, and the items and samples that queries need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.checks import check_disjoint, check_tokens, check_unique_documents
from automixer_assets.code_versions import package_version, source_version
from automixer_assets.corpus.inventory import (
    INVENTORY_VERSION,
    read_texts,
    take_inventory,
    verify_sources,
)
from automixer_assets.corpus.inventory_parts import take_inventory_in_parts
from automixer_assets.corpus.reference import write_reference_sample
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.corpus.sources import fingerprint, require_unchanged
from automixer_assets.corpus.tokenize import TOKENIZE_VERSION, tokenize_snapshot
from automixer_assets.lake import folder_digest
from automixer_assets.lake_asset import Build, Check, LakeAsset, Scope, lake_asset
from automixer_assets.launch.job import corpus_launcher
from automixer_assets.mixture.parquet import count_rows
from automixer_assets.pages.corpus import (
    show_reference_sample,
    show_snapshot_inventory,
    show_tokenized_corpus,
    show_tokenizer,
    show_validation_items,
)
from automixer_assets.partitions import SNAPSHOTS
from automixer_assets.proxy.imported_tokenizer import ImportedTokenizer
from automixer_assets.settings import ImportedProxy, Settings

GROUP = "corpus"
ITEM_MODULES = ("benchmark.items", "benchmark.registry", "benchmark.sources", "benchmark.tasks")
"""What decides which items there are and how they read."""


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
            code=source_version("proxy.tokenizer") + package_version("tokenizers"),
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
            checks=[
                Check("tokens_match_documents", "Token offsets and lengths cover each shard exactly.", check_tokens)
            ],
        ),
        lake_asset(
            asset="validation_items",
            group=GROUP,
            kinds={"lm-eval", "parquet"},
            code=source_version(*ITEM_MODULES) + package_version("lm_eval"),
            plan=plan_validation_items,
            deps=["tokenizer"],
            checks=[Check("item_sets_disjoint", "Gradient, selection and final items share nothing.", check_disjoint)],
        ),
        lake_asset(
            asset="reference_sample",
            group=GROUP,
            kinds={"parquet", "polars"},
            code=source_version("corpus.reference"),
            plan=plan_reference_sample,
            deps=_fixed_snapshots("tokenized_corpus", settings.reference_sample.snapshots),
        ),
    ]


def plan_snapshot_inventory(scope: Scope) -> Build:
    """Which documents does this snapshot hold, and which rows were rejected, and why?

    One row per document with its carried source columns, and a quarantine table of bad rows with reasons.
    """
    sources = scope.automixer.sources()
    files = sources.list_files(scope.key)

    def write(out: Path) -> None:
        folder = sources.fetch(scope.key, files)
        with scope.progress(sum(_rows(folder / file.name) for file in files), "rows") as progress:
            take = take_inventory
            if scope.settings.launchers.corpus != "local":
                take = partial(take_inventory_in_parts, run=corpus_launcher(scope.settings.launchers, scope.log))
            take(
                folder,
                out,
                documents_per_shard=scope.settings.corpus.documents_per_shard,
                on_progress=progress.advance,
            )
        require_unchanged(sources, scope.key, files)

    return scope.build(
        write, show_snapshot_inventory, settings=[scope.settings.corpus.documents_per_shard, fingerprint(files)]
    )


def plan_tokenizer(scope: Scope) -> Build:
    """Which tokenizer turns text into ids, and how well does it compress the corpus?

    A byte-level BPE trained on fixed snapshots, or a Hugging Face tokenizer as it is, local or an imported proxy's.
    """
    chosen = scope.settings.tokenizer
    if chosen.path is not None:
        source = scope.automixer.resolve(chosen.path)
        return scope.build(lambda out: _copy_tokenizer(source, out), show_tokenizer, settings=folder_digest(source))
    if chosen.proxy is not None:
        return _plan_imported_tokenizer(scope, chosen.proxy)
    inventories = [(scope.pin("snapshot_inventory", snapshot).path, snapshot) for snapshot in chosen.snapshots]

    def write(out: Path) -> None:
        from automixer_assets.proxy.tokenizer import train_tokenizer

        read = [(inventory, restored_sources(scope, snapshot, inventory)) for inventory, snapshot in inventories]
        train_tokenizer(_first_texts(read, chosen.max_documents), chosen.vocab_size, out)

    return scope.build(write, show_tokenizer, settings=chosen.model_dump(exclude={"proxy"}))


def _plan_imported_tokenizer(scope: Scope, proxy: str) -> Build:
    """Read from the checkpoints themselves: by way of proxy_run, every new checkpoint would touch the whole corpus."""
    chosen = scope.settings.proxy(proxy)
    assert isinstance(chosen, ImportedProxy)
    source = ImportedTokenizer(chosen.checkpoints_from, scope.automixer.resolve)
    return scope.build(lambda out: _copy_tokenizer(source.folder(), out), show_tokenizer, settings=source.version())


def _first_texts(inventories: Sequence[tuple[Path, Path]], limit: int) -> Iterator[str]:
    """The first texts of inventoried snapshots, each source file compared with its inventory before it is read."""
    for inventory, folder in inventories:
        files, verified = pl.read_parquet(inventory / "files.parquet"), set()
        for path in sorted((inventory / "documents").glob("*.parquet")):
            documents = pl.read_parquet(path).head(limit)
            if documents.is_empty():
                return
            limit -= documents.height
            for name in set(documents["file"]) - verified:
                verify_sources(folder, files.filter(pl.col("file") == name))
                verified.add(name)
            yield from read_texts(folder, documents)


def plan_tokenized_corpus(scope: Scope) -> Build:
    """How many tokens does this snapshot hold, and how long are its documents?

    Token shards, memory-mappable, row-aligned with the inventory's documents.
    """
    inventory, tokenizer = scope.pin("snapshot_inventory", scope.key), scope.pin("tokenizer")

    def write(out: Path) -> None:
        folder = restored_sources(scope, scope.key, inventory.by_file)
        documents = count_rows((inventory.by_file / "documents").glob("*.parquet"))
        with scope.progress(documents, "documents") as progress:
            tokenize_snapshot(
                inventory.by_file,
                folder,
                tokenizer.path,
                out,
                snapshot=scope.key,
                on_progress=progress.advance,
                run=corpus_launcher(scope.settings.launchers, scope.log),
            )

    return scope.build(write, show_tokenized_corpus, resumable=True)


def plan_validation_items(scope: Scope) -> Build:
    """Which benchmark items steer the mixture, and are those that judge it kept apart?

    Gradient items as lm-eval renders them, tokenised with masks, and the three disjoint item sets by hash.
    """
    tokenizer = scope.pin("tokenizer")
    tasks = scope.settings.tasks

    def write(out: Path) -> None:
        from automixer_assets.benchmark.items import write_validation_items
        from automixer_assets.proxy.tokenizer import load_tokenizer

        write_validation_items(
            tasks,
            scope.automixer.resolve("."),
            load_tokenizer(tokenizer.path),
            out,
            cache=scope.automixer.resolve("cache/datasets"),
            seed=scope.settings.seed,
            shared=tasks.shared_items,
        )

    return scope.build(write, show_validation_items, settings=[tasks_slice(scope), scope.settings.seed])


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


def tasks_slice(scope: Scope) -> object:
    """What of the task settings determines items and results: the choice and the files, not where they lie."""
    tasks = scope.settings.tasks
    chosen = tasks.model_dump(exclude={"directory": True, "batch_size": True, "data": {"directory"}})
    local = tasks.data.directory if tasks.data.source == "files" else None
    folders = [None if path is None else scope.automixer.resolve(path) for path in (tasks.directory, local)]
    return [chosen, *(folder_digest(folder) if folder is not None and folder.is_dir() else None for folder in folders)]


def _fixed_snapshots(asset: str, snapshots: Sequence[str]) -> list[dg.AssetDep]:
    """A dependency on named snapshots only, so that a new one makes nothing stale."""
    if not snapshots:
        return []
    return [dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping(list(snapshots)))]


def restored_sources(scope: Scope, snapshot: str, inventory: Path) -> Path:
    """A local folder with the source files of an inventoried snapshot."""
    return scope.automixer.sources().restore(snapshot, pl.read_parquet(inventory / "files.parquet"))


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
