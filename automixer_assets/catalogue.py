"""Finding mixtures: the latest of a name, or one by its digest, from the events that Dagster keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.errors import ConfigurationError
from automixer_assets.events import events_of
from automixer_assets.lake import Lake
from automixer_assets.mixture.manifest import Manifest, load_manifest

ASSET, CHARACTERISTICS, UNCERTAINTY = "weight_manifest", "group_characteristics", "weight_uncertainty"


@dataclass(frozen=True)
class MixtureVersion:
    """One materialised version of a mixture."""

    mixture: str
    digest: str
    uri: str
    timestamp: float
    run_id: str


def versions(instance: dg.DagsterInstance, mixture: str | None = None) -> Iterator[MixtureVersion]:
    """Every materialised version, latest first."""
    for event in events_of(instance, ASSET, mixture):
        yield MixtureVersion(str(event.partition), event.sha256, event.uri, event.timestamp, event.run_id)


def find_manifest(instance: dg.DagsterInstance, lake: Lake, name: str) -> Manifest:
    """The manifest of `NAME` or `NAME@digest`, see `find_version`.

    Raises:
        ConfigurationError: no such mixture or digest.
        AutomixerError: its folder is gone from the lake.
    """
    return load_manifest(find_mixture(instance, lake, name) / "manifest.json")


def find_mixture(instance: dg.DagsterInstance, lake: Lake, name: str) -> Path:
    """The weight_manifest folder of `NAME` or `NAME@digest`, see `find_version`."""
    return lake.open(find_version(instance, name).uri).path


def find_version(instance: dg.DagsterInstance, name: str) -> MixtureVersion:
    """The latest materialisation of `NAME` or of `NAME@digest` (any unambiguous prefix of the digest).

    Raises:
        ConfigurationError: no such mixture or digest.
    """
    mixture, _, digest = name.partition("@")
    known = list(versions(instance, mixture))
    if not known:
        others = sorted({version.mixture for version in versions(instance)})
        hint = f"there are: {', '.join(others)}" if others else "none was made yet"
        raise ConfigurationError(
            f"no mixture {mixture!r} was made ({hint}): define it under `mixtures:` in the settings, then run "
            "`automixer materialize +weight_manifest`"
        )
    matching = [version for version in known if version.digest.startswith(digest)]
    if not matching:
        digests = ", ".join(sorted({version.digest[:12] for version in known}))
        raise ConfigurationError(f"mixture {mixture!r} has no version {digest!r}; its versions are: {digests}")
    if digest and len({version.digest for version in matching}) > 1:
        digests = ", ".join(sorted({version.digest[: len(digest) + 8] for version in matching}))
        raise ConfigurationError(f"{name!r} matches several versions of {mixture!r}: give more of one of {digests}")
    return matching[0]


def pinned_snapshots(lake: Lake, manifest: Manifest) -> dict[str, TokenizedSnapshot]:
    """The tokenised snapshots that the manifest was made from, whatever has been materialised since."""
    return {
        str(pin.partition): open_tokenized(lake.open(str(pin.uri)).path)
        for pin in manifest.pins
        if pin.asset == "tokenized_corpus"
    }


def find_characteristics(instance: dg.DagsterInstance, lake: Lake, manifest: Manifest) -> Path:
    """The folder of group_characteristics that was made from the manifest's very groups.

    Raises:
        ConfigurationError: it was not made, or from other groups only.
    """
    grouped = next(pin.data_version for pin in manifest.pins if pin.asset == "grouped_shards")
    found = _made_from(instance, lake, CHARACTERISTICS, manifest.mixture, "grouped_shards", grouped)
    if found is None:
        raise ConfigurationError(
            f"what is characteristic of {manifest.reference[: len(manifest.mixture) + 13]} was not looked for yet: "
            f"run `automixer materialize +group_characteristics --partition {manifest.mixture}`"
        )
    return found


def find_uncertainty(instance: dg.DagsterInstance, lake: Lake, manifest: Manifest) -> Path:
    """The folder of weight_uncertainty that was made from this very manifest.

    Raises:
        ConfigurationError: it was not made, or from other manifests only.
    """
    found = _made_from(instance, lake, UNCERTAINTY, manifest.mixture, "weight_manifest", manifest.digest)
    if found is None:
        raise ConfigurationError(
            f"how sure the weights of {manifest.reference[: len(manifest.mixture) + 13]} are was not asked yet: "
            f"run `automixer materialize +weight_uncertainty --partition {manifest.mixture}`"
        )
    return found


def find_selected(lake: Lake, manifest: Manifest) -> Path | None:
    """The folder of selected_checkpoints that the manifest was made from; None where no checkpoint was selected."""
    uris = [pin.uri for pin in manifest.pins if pin.asset == "selected_checkpoints" and pin.uri is not None]
    return lake.open(uris[0]).path if uris else None


def _made_from(
    instance: dg.DagsterInstance, lake: Lake, asset: str, mixture: str, upstream: str, version: str | None
) -> Path | None:
    """The latest folder of an asset of that mixture that pins this version of `upstream`."""
    for event in events_of(instance, asset, mixture):
        if version in [pin.data_version for pin in event.pins if pin.asset == upstream]:
            return lake.open(event.uri).path
    return None


def list_mixtures(instance: dg.DagsterInstance, lake: Lake) -> list[dict[str, object]]:
    """One row per distinct version, latest first."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for version in versions(instance):
        key = (version.mixture, version.digest)
        if key in rows:
            continue
        row: dict[str, object] = {"mixture": version.mixture, "digest": version.digest, "made": version.timestamp}
        artifact = lake.find_uri(version.uri)
        if artifact is not None:
            manifest = load_manifest(artifact.file("manifest.json"))
            row |= {
                "recipe": manifest.recipe,
                "profile": manifest.profile,
                "snapshots": list(manifest.snapshots),
                "token_budget": manifest.token_budget,
                "weights": {group.name: group.weight for group in manifest.groups},
            }
        rows[key] = row
    return list(rows.values())
