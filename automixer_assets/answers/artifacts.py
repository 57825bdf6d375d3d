"""Is every pinned file still what it was? Digests of artefacts, of the manifest, and of the files that it lists."""

from __future__ import annotations

import contextlib
from pathlib import Path

import polars as pl

from automixer_assets.answers.findings import UNREADABLE, Check
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER, Lake, digest_of, file_sha256
from automixer_assets.lake_removal import artifact_size
from automixer_assets.mixture.build import manifest_options
from automixer_assets.mixture.manifest import (
    ManifestGroup,
    ManifestShard,
    Pin,
    manifest_digest,
    validate_manifest_json,
)
from automixer_assets.progress import Progress

OWN_CONTENT = ("removed_documents", "weight_manifest")
"""Artefacts whose data version says less than all of their bytes."""


def check_document(inputs: PinnedInputs) -> Check:
    """Schema, digest, and what the manifest says of itself more than once."""
    check = Check("manifest", "Does the manifest follow its schema, and is its digest its own?")
    manifest = inputs.manifest
    with check.reading("manifest.json"):
        validate_manifest_json(manifest.model_dump(mode="json"))
    check.equal("digest", manifest.digest, manifest_digest(manifest))
    check.equal("options", manifest.options, manifest_options(inputs.mixture, inputs.recipe))
    kept = sorted({shard.snapshot for group in manifest.groups for shard in group.shards})
    check.equal("snapshots", list(manifest.snapshots), kept)
    for snapshot in manifest.snapshots:
        with check.reading(f"tokenized_corpus[{snapshot}]"):
            found = inputs.corpus(snapshot).tokenizer_digest
            check.equal(f"tokenizer_digest (of {snapshot})", manifest.tokenizer_digest, found)
    if inputs.published is None:
        check.note = "no event of this state made a manifest of this digest"
    else:
        check.equal("digest, as materialised", manifest.digest, inputs.published.sha256)
    return check


def pinned_bytes(inputs: PinnedInputs) -> int:
    """How much `check_artifacts` will read."""
    size = 0
    for pin in _every_pin(inputs):
        with contextlib.suppress(*UNREADABLE):  # `check_artifacts` says what cannot be read
            artifact = inputs.lake.find_uri(pin.uri) if pin.uri else None
            size += 0 if artifact is None else artifact_size(artifact)
    return size


def check_artifacts(inputs: PinnedInputs, progress: Progress) -> Check:
    """sha256 of every file of every pinned artefact, direct or upstream."""
    check = Check("artefacts", "Is every pinned file still what it was?")
    for each in inputs.unknown:
        check.differ(f"pins[{each.pin.asset}[{each.pin.partition}]].{each.field}", each.pinned, each.found)
    for pin in _every_pin(inputs):
        if pin.uri is None:
            check.differ(f"pins[{pin.asset}[{pin.partition}]].uri", None, "a folder of the lake")
            continue
        with check.reading(inputs.lake.location(pin.uri)):
            _check_artifact(check, inputs.lake, pin.uri, pin.sha256, progress)
    return check


def _every_pin(inputs: PinnedInputs) -> list[Pin]:
    return [*inputs.pins.values(), *([inputs.published] if inputs.published else [])]


def _check_artifact(check: Check, lake: Lake, uri: str, sha256: str | None, progress: Progress) -> None:
    artifact, place = lake.find_uri(uri), lake.location(uri)
    if artifact is None:
        raise AutomixerError(f"{place} is missing or incomplete: restore it from a copy of the lake")
    check.equal(f"{place}/{MARKER}: content", artifact.content, sha256)
    if artifact.kind not in OWN_CONTENT:
        check.equal(f"{place}/{MARKER}: content of its list of files", digest_of(artifact.files), artifact.content)
    for name, digest in artifact.files.items():
        found = lake.stored(artifact, name, digests=True)
        if found is None:
            check.differ(f"{place}/{name}", "deleted", digest)
            continue
        check.equal(f"sha256 of {place}/{name}", found.sha256, digest)
        progress.advance(found.size)
    for name in lake.unlisted(artifact):
        check.differ(f"{place}/{name}", "present", "not a file of this artefact")


def check_shards(inputs: PinnedInputs) -> Check:
    """The selection files that the manifest lists: all of them, no other, with these bytes and counts."""
    check = Check("selection files", "Are the listed selection files there, with these bytes and counts?")
    for group in inputs.manifest.groups:
        with check.reading(f"groups[{group.name}].shards"):
            _check_listed(check, inputs, group)
        for shard in group.shards:
            _check_shard(check, inputs.lake.root / shard.uri, group.name, shard)
    return check


def _check_listed(check: Check, inputs: PinnedInputs, group: ManifestGroup) -> None:
    folder = inputs.grouped / "groups" / group.name
    uris = [path.relative_to(inputs.lake.root).as_posix() for path in sorted(folder.glob("*/*.parquet"))]
    listed = [shard.uri for shard in group.shards]
    check.equal(f"groups[{group.name}].shards, not listed", sorted(set(uris) - set(listed)), [])
    check.equal(f"groups[{group.name}].shards, not in the artefact", sorted(set(listed) - set(uris)), [])
    for name in ("n_documents", "n_tokens"):
        total = sum(getattr(shard, name) for shard in group.shards)
        check.equal(f"groups[{group.name}].shards, sum of {name}", total, getattr(group, name))


def _check_shard(check: Check, path: Path, group: str, shard: ManifestShard) -> None:
    where = f"groups[{group}].shards[{shard.snapshot}/{shard.shard}]"
    if not path.exists():
        check.differ(str(path), "deleted", shard.sha256)
        return
    check.equal(f"{where}.sha256", shard.sha256, file_sha256(path))
    with check.reading(str(path)):
        lengths = pl.read_parquet(path, columns=["n_tokens"])["n_tokens"]
        check.equal(f"{where}.n_documents", shard.n_documents, lengths.len())
        check.equal(f"{where}.n_tokens", shard.n_tokens, int(lengths.sum()))
