"""Which documents of a group a trainer reads: the one way from a manifest to tokens, for streams and exports alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot, TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.exposure import token_shard
from automixer_assets.mixture.manifest import Manifest, ManifestGroup, ManifestShard
from automixer_assets.mixture.subsample import SAMPLED_COLUMNS, sampled


@dataclass(frozen=True)
class SelectedShard:
    """What a group takes from one tokenised shard. `documents`: row, doc_id, n_tokens, offset, in the shard's order."""

    group: str
    shard: TokenShard
    documents: pl.DataFrame


def selected_shards(
    group: ManifestGroup, lake_root: Path, snapshots: Mapping[str, TokenizedSnapshot]
) -> Iterator[SelectedShard]:
    """A group's documents, one shard at a time; of a group above its budget those of its sample.

    `group` may be a copy that lists some of its shards only.

    Raises:
        AutomixerError: a selection file is missing, names other documents than the tokenised shard holds, or the files
            do not give the sample that the manifest counts.
    """
    n_documents = 0
    for each in group.shards:
        part = _selected_shard(group, each, lake_root, snapshots)
        n_documents += part.documents.height
        yield part
    whole = sum(each.n_documents for each in group.shards) == group.n_documents
    if whole and n_documents != group.read_documents:
        raise AutomixerError(
            f"the selection files of group {group.name} give {n_documents:,} documents where the manifest counts "
            f"{group.read_documents:,}; read the manifest with the lake that it was made in, or make it again"
        )


def sampled_rows(path: Path, group: ManifestGroup) -> pl.DataFrame:
    """Rows `row, doc_id, n_tokens` of a selection file that are read."""
    if group.subsample is None:
        return pl.read_parquet(path, columns=["row", "doc_id", "n_tokens"])
    rows = pl.read_parquet(path, columns=["row", "n_tokens", *SAMPLED_COLUMNS])
    return rows.filter(sampled(rows.select(SAMPLED_COLUMNS).to_arrow(), group)).drop("joint_utility")


def require_tokenizer(manifest: Manifest, snapshots: Mapping[str, TokenizedSnapshot]) -> None:
    """Raise AutomixerError where a snapshot is tokenised otherwise than the manifest counts."""
    for name, snapshot in sorted(snapshots.items()):
        if snapshot.tokenizer_digest != manifest.tokenizer_digest:
            raise AutomixerError(
                f"snapshot {name} is tokenised with {snapshot.tokenizer_digest} but the manifest counts tokens of "
                f"{manifest.tokenizer_digest}; materialise tokenized_corpus with the manifest's tokenizer"
            )


def _selected_shard(
    group: ManifestGroup, each: ManifestShard, lake_root: Path, snapshots: Mapping[str, TokenizedSnapshot]
) -> SelectedShard:
    shard, path = token_shard(snapshots, each.snapshot, each.shard), lake_root / each.uri
    if not path.exists():
        raise AutomixerError(
            f"{path} is missing but the manifest lists it; materialise grouped_shards or copy the lake"
        )
    selected = sampled_rows(path, group).select("row", "doc_id")
    documents = pl.read_parquet(shard.documents_path, columns=["doc_id", "n_tokens", "offset"])
    found = documents.select(pl.all().gather(selected["row"].to_list()))
    if not found["doc_id"].equals(selected["doc_id"]):
        raise AutomixerError(
            f"{path} names other documents than {shard.documents_path} has in these rows; "
            "read the manifest with the tokenised snapshots that it pins"
        )
    return SelectedShard(group.name, shard, found.with_columns(row=selected["row"]).select("row", *found.columns))
