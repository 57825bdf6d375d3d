"""What a snapshot holds, and whether anything has scored that yet: from pins and inventories alone."""

from __future__ import annotations

import dagster as dg
import polars as pl

from automixer_assets.corpus.sources import ListedFile, SnapshotSources, fingerprint
from automixer_assets.lake import Lake, digest_of
from automixer_assets.lineage import Pin, latest, upstream
from automixer_assets.resources import Automixer


def latest_ids(instance: dg.DagsterInstance, asset: str) -> dict[str, int]:
    """Storage id of the latest materialisation by partition, in one query."""
    key = dg.AssetKey.from_user_string(asset)
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return dict(instance.get_latest_storage_id_by_partition(key, kind))


def content_of(instance: dg.DagsterInstance, lake: Lake, tokenized: Pin) -> str | None:
    """Digest of the source files that a tokenised snapshot was made from; None when their inventory left the lake.

    Settings such as the shard size or the tokenizer are no part of it: to change them is no arrival.
    """
    for pin in upstream(instance, tokenized):
        artifact = lake.find_uri(pin.uri) if pin.asset == "snapshot_inventory" else None
        if artifact is not None:
            files = pl.read_parquet(artifact.file("files.parquet"))
            return digest_of(sorted(files.select("file", "sha256").iter_rows()))
    return None


def is_scored(instance: dg.DagsterInstance, automixer: Automixer, snapshot: str, tokenized: Pin) -> bool:
    """True when some checkpoint of some proxy has scored these very source files, or nobody can tell any more."""
    lake = automixer.lake()
    content = content_of(instance, lake, tokenized)
    if content is None:
        return True
    for proxy in automixer.settings().proxies:
        asset = f"{proxy}/checkpoint_influence"
        for key in sorted(latest_ids(instance, asset)):
            cell = latest(instance, asset, key) if key.endswith(f"|{snapshot}") else None
            for pin in () if cell is None else upstream(instance, cell.pin):
                if pin.asset == "tokenized_corpus" and content_of(instance, lake, pin) in (content, None):
                    return True
    return False


def what_changed(
    instance: dg.DagsterInstance, automixer: Automixer, sources: SnapshotSources, snapshot: str, files: list[ListedFile]
) -> tuple[bool, str | None]:
    """Whether the listing differs from what was inventoried, and in what way it lost something, if it did."""
    made = latest(instance, "snapshot_inventory", snapshot)
    if made is None:
        return True, None
    if made.settings == digest_of([automixer.settings().corpus.documents_per_shard, fingerprint(files)]):
        return False, None
    artifact = automixer.lake().find_uri(made.pin.uri)
    if artifact is None:
        return True, None
    before = pl.read_parquet(artifact.file("files.parquet"))
    gone = sorted(set(before["file"]) - {file.name for file in files})
    n_bytes = sum(file.size for file in files)
    where = sources.location(snapshot)
    if gone:
        return True, f"{where} lost {len(gone)} of its {before.height} files, first {gone[0]}"
    if n_bytes < before["bytes"].sum():
        return True, f"{where} shrank from {before['bytes'].sum():,} to {n_bytes:,} bytes"
    return True, None
