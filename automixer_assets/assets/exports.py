"""A mixture's files for trainers."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg

from automixer_assets.assets.mixture import GROUP, manifest_slice
from automixer_assets.code_versions import source_version
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.export import export_mixture, n_documents
from automixer_assets.files import write_atomically
from automixer_assets.lake import PARTIAL, file_sha256
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.pages.exports import LISTING, show_trainer_exports
from automixer_assets.partitions import MIXTURES
from automixer_assets.settings import Export, Settings

MODULES = (
    "exporting",
    "folder",
    "format",
    "handover",
    "labels",
    "registry",
    "retokenizing",
    "source",
    "texts",
    "weights",
)


def exports_assets(settings: Settings) -> list[LakeAsset]:
    """From a manifest to what a trainer reads, where a mixture of the settings lists exports."""
    if not any(mixture.exports for mixture in settings.mixtures.values()):
        return []
    return [
        lake_asset(
            asset="trainer_exports",
            group=GROUP,
            kinds={"parquet"},
            code=source_version(*(f"export.{name}" for name in MODULES), "mixture.selected"),
            plan=plan_trainer_exports,
            partitions_def=MIXTURES,
            deps=["weight_manifest", dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping())],
        )
    ]


def plan_trainer_exports(scope: Scope) -> Build:
    """What do I point my trainer at?

    Per format that the mixture lists under `exports`: documents, weights in the trainer's unit, its configuration, and
    a hand-over sheet. `automixer mixture export` writes the same into a folder of your own.
    """
    mixture = scope.settings.mixture(scope.key)
    made_with = manifest_slice(mixture, scope.settings.recipe(mixture.recipe))
    manifest = load_manifest(scope.pin("weight_manifest", scope.key, settings=made_with).path / "manifest.json")
    used = {shard.snapshot for group in manifest.groups for shard in group.shards} if mixture.exports else set()
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).path) for name in sorted(used)}

    def write(out: Path) -> None:
        write_atomically(out / LISTING, json.dumps([export.format for export in mixture.exports]).encode() + b"\n")
        for export in mixture.exports:
            folder = out / export.format
            published = out.with_name(out.name.removeprefix(PARTIAL)) / export.format
            with scope.progress(n_documents(manifest), "documents") as progress:
                export_mixture(
                    manifest,
                    scope.lake.root_with(manifest.selection_uris),
                    corpora,
                    export.format,
                    folder,
                    corpus=scope.automixer.resolve(scope.settings.corpus.directory),
                    tokenizer=_tokenizer(scope, export),
                    location=Path(export.location) if export.location else published,
                    sequence_length=export.sequence_length,
                    batch_size=export.batch_size,
                    on_progress=lambda n, earlier, p=progress: p.skip(n) if earlier else p.advance(n),
                )

    slices = [[export.model_dump(), _tokenizer_digest(scope, export)] for export in mixture.exports]
    return scope.build(write, show_trainer_exports, settings=slices, resumable=True)


def _tokenizer(scope: Scope, export: Export) -> Path | None:
    return None if export.tokenizer is None else scope.automixer.resolve(export.tokenizer)


def _tokenizer_digest(scope: Scope, export: Export) -> str | None:
    """The content of the trainer's tokenizer, not only its name; None where there is no such file, as writing says."""
    folder = _tokenizer(scope, export)
    file = None if folder is None else (folder / "tokenizer.json" if folder.is_dir() else folder)
    return None if file is None or not file.exists() else file_sha256(file)
