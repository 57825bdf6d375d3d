"""Removal takes everything that nothing kept was made from, and never anything else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.gc import Retention, collect, survey
from automixer_assets.lake import Lake
from automixer_assets.lake_removal import TRASH, artifacts
from automixer_assets.lineage import Pin

KINDS = ("tokenized_corpus", "joint_influence", "grouped_shards")


class Log:
    """A lake and an event log, and materialisations put into both by hand."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance = Lake(root / "lake"), instance
        self.pins: list[Pin] = []

    def add(self, asset: str, partition: str, digest: str, reads: list[Pin]) -> Pin:
        """A materialisation of the artefact `digest`, which may be there already."""
        uri = self.lake.publish(asset, digest, lambda out: (out / "data").write_text(digest) and None).uri
        metadata = {
            "uri": uri,
            "sha256": digest,
            "pins": dg.MetadataValue.json([asdict(pin) for pin in reads]),
        }
        event = dg.AssetMaterialization(asset, partition=partition, metadata=metadata)
        self.instance.report_runless_asset_event(event)
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
        record = self.instance.fetch_materializations(wanted, limit=1).records[0]
        self.pins.append(Pin(asset, partition, digest, record.run_id, record.storage_id, uri, digest))
        return self.pins[-1]

    @property
    def uris(self) -> set[str]:
        return {artifact.uri for artifact in artifacts(self.lake)}


@contextmanager
def log_of(folder: Path) -> Iterator[Log]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Log(folder, instance)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, str, str, list[int]]]:
    """(asset, partition, digest, indices of what it reads), everything after what it reads."""
    steps: list[tuple[str, str, str, list[int]]] = []
    for index in range(draw(st.integers(1, 12))):
        asset = draw(st.sampled_from([*KINDS, "weight_manifest"]))
        partition = draw(st.sampled_from(["a", "b"]))
        digest = f"{asset}-{draw(st.integers(0, 3))}"
        reads = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        steps.append((asset, partition, digest, reads))
    return steps


def needed(steps: list[tuple[str, str, str, list[int]]], retention: Retention) -> set[str]:
    """The artefacts to keep, found the slow way: by asking of each materialisation whether a root leads to it."""

    def below(index: int) -> set[int]:
        return {index}.union(*(below(read) for read in steps[index][3]))

    uris = [f"{asset}/{digest}" for asset, _, digest, _ in steps]
    roots = set()
    for mixture in ("a", "b"):
        own = [i for i, step in enumerate(steps) if step[:2] == ("weight_manifest", mixture)]
        digests = list(dict.fromkeys(steps[i][2] for i in reversed(own)))[: retention.keep_last]
        roots |= {i for i in own if steps[i][2] in digests}
    read = {uris[i] for i in roots} | {uris[j] for i in roots for j in steps[i][3] if steps[j][0] == "grouped_shards"}
    about = {
        i
        for i, step in enumerate(steps)
        if step[0] != "weight_manifest" and any(uris[j] in read for j in step[3])
    }
    if retention.keep_current:
        roots |= {max(i for i, other in enumerate(steps) if other[:2] == step[:2]) for step in steps}
    return {uris[i] for root in roots | about for i in below(root)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    graphs(),
    st.builds(Retention, keep_last=st.sampled_from([None, 1, 2]), keep_current=st.booleans()),
)
def test_what_nothing_kept_was_made_from_goes_and_all_else_stays(
    steps: list[tuple[str, str, str, list[int]]], retention: Retention
):
    folder = Path(tempfile.mkdtemp())
    with log_of(folder) as log:
        for asset, partition, digest, reads in steps:
            log.add(asset, partition, digest, [log.pins[index] for index in reads])
        before = log.uris
        keep = needed(steps, retention)
        assert {each.uri for each in survey(log.instance, log.lake, [], retention).removable} == before - keep
        assert log.uris == before, "a survey removes nothing"
        collect(log.instance, log.lake, [], retention)
        assert log.uris == keep
        for uri in keep:
            assert (log.lake.open(uri).path / "data").read_text() == uri.partition("/")[2]
        assert survey(log.instance, log.lake, [], retention).removable == []
    shutil.rmtree(folder)
