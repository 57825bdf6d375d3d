"""The command line over a lake in an object store: what it makes, and every answer, are those of a lake on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from automixer_assets.catalogue import find_manifest, pinned_snapshots
from automixer_assets.events import all_events
from automixer_assets.lake import MARKER, Lake
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.mixture.stream import MixtureStream
from automixer_assets.remote_lake import RemoteLake
from automixer_assets.resources import Automixer
from automixer_assets_tests.command import Place, create_finished_place
from automixer_assets_tests.s3.conftest import new_bucket, open_remote
from automixer_assets_tests.s3.server import S3Server

pytestmark = pytest.mark.xdist_group("remote place")


@pytest.fixture(scope="module")
def local_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return create_finished_place(tmp_path_factory.mktemp("local") / "place")


@pytest.fixture(scope="module")
def remote_place(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Its lake is in a bucket as long as these tests run."""
    url = new_bucket(s3_server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOMIXER_LAKE", url)
        yield create_finished_place(tmp_path_factory.mktemp("remote") / "place")


@pytest.fixture
def lake(remote_place: Place) -> RemoteLake:
    with remote_place.active():
        opened = Automixer().lake()
    assert isinstance(opened, RemoteLake)
    return opened


def contents(place: Place) -> dict[tuple[str, str | None], tuple[str, str]]:
    """(asset, partition) -> (uri, content) of every event."""
    with place.instance() as instance:
        return {(event.asset, event.partition): (event.uri, event.sha256) for event in all_events(instance)}


def test_digests_are_those_of_a_lake_on_disk(
    local_place: Place, remote_place: Place, lake: RemoteLake, s3_server: S3Server
):
    assert [request for request in s3_server.requests if request.lists] == []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AUTOMIXER_LAKE")
        remote, local = contents(remote_place), contents(local_place)
    assert {name: content for name, (_, content) in remote.items()} == {
        name: content for name, (_, content) in local.items()
    }
    on_disk = Lake(local_place.state / "lake")
    for (asset, partition), (uri, _) in remote.items():
        found, expected = lake.open(uri), on_disk.open(local[asset, partition][0])
        assert found.objects == {}
        if asset != "snapshot_inventory":  # named by the modification times of its sources, too
            assert found.uri == expected.uri
        if asset != "weight_manifest":  # says when it was made, too
            assert found.files == expected.files


def test_a_second_run_makes_nothing(remote_place: Place, s3_server: S3Server):
    s3_server.requests.clear()
    assert remote_place.run("materialize", "key:weight_manifest").code == 0
    assert {request.method for request in s3_server.requests} == {"GET"}


def test_verify_reads_the_store_and_not_the_copies(remote_place: Place, lake: RemoteLake):
    result = remote_place.run("mixture", "verify", "uniform")
    assert result.code == 0, result.stdout + result.stderr
    with remote_place.instance() as instance:
        manifest = find_manifest(instance, lake, "uniform")
    uri = manifest.selection_uris[0]
    whole = lake.store.read(uri)
    assert whole is not None
    lake.store.delete(uri)
    lake.store.create(uri, whole[:-1] + b"?")
    try:
        result = remote_place.run("mixture", "verify", "uniform", "--json")
        assert result.code == 1
        assert f"sha256 of {lake.location(uri)}" in result.stdout
    finally:
        lake.store.delete(uri)
        lake.store.create(uri, whole)


def test_lineage_check_reads_the_store(remote_place: Place):
    result = remote_place.run("lineage", "uniform", "--check", "--digests")
    assert result.code == 0, result.stdout + result.stderr


def test_explain_answers_as_on_disk(local_place: Place, remote_place: Place, lake: RemoteLake):
    with remote_place.instance() as instance:
        snapshots = pinned_snapshots(lake, find_manifest(instance, lake, "uniform"))
    shard = next(iter(snapshots.values())).shards[0]
    doc_id = pl.read_parquet(shard.documents_path)["doc_id"][0]
    with pytest.MonkeyPatch.context() as patch:
        remote = remote_place.run("mixture", "explain", "uniform", doc_id, "--json")
        patch.delenv("AUTOMIXER_LAKE")
        local = local_place.run("mixture", "explain", "uniform", doc_id, "--json")
    assert remote.code == local.code == 0, remote.stderr
    assert json.loads(remote.stdout) == json.loads(local.stdout)


def test_export_reads_the_store(remote_place: Place, tmp_path: Path):
    result = remote_place.run("mixture", "export", "uniform", "--format", "hf", "--out", str(tmp_path / "out"))
    assert result.code == 0, result.stderr
    assert (tmp_path / "out" / "export.json").exists()


def test_another_machine_streams_the_same_tokens(local_place: Place, lake: RemoteLake, tmp_path: Path):
    on_disk = Lake(local_place.state / "lake")
    elsewhere = open_remote(lake.store.url, tmp_path / "elsewhere")
    uri = next(uri for (asset, _), (uri, _) in contents(local_place).items() if asset == "weight_manifest")

    def tokens(lake: Lake) -> list[list[int]]:
        manifest = load_manifest(lake.open(uri).path / "manifest.json")
        root, snapshots = lake.root_with(manifest.selection_uris), pinned_snapshots(lake, manifest)
        stream = MixtureStream(manifest, root, snapshots, sequence_length=32)
        return [sequence.tolist() for _, sequence in zip(range(8), stream, strict=False)]

    assert tokens(elsewhere) == tokens(on_disk)


def test_gc_keeps_what_a_mixture_pins(remote_place: Place, lake: RemoteLake):
    def write_one(folder: Path) -> None:
        (folder / "x").write_text("x")

    lake.publish("joint_influence", "0" * 32, write_one)
    before = {each.key for each in lake.store.list_below("")}
    result = remote_place.run("gc", "--delete")
    assert result.code == 0, result.stdout + result.stderr
    gone = before - {each.key for each in lake.store.list_below("")}
    assert gone == {f"joint_influence/{'0' * 32}/x", f"joint_influence/{'0' * 32}/{MARKER}"}


def test_another_machine_makes_the_next_mixture_without_a_copy_of_the_corpus(
    remote_place: Place, s3_server: S3Server, tmp_path: Path
):
    """What the first machine wrote is not here: joint influence comes file by file, documents by ranges, no tokens."""
    s3_server.requests.clear()
    result = remote_place.run(
        "materialize",
        "key:grouped_shards or key:weight_manifest",
        "--set",
        "mixtures.uniform.top_share=0.4",
        AUTOMIXER_LAKE_CACHE=str(tmp_path / "cache"),
    )
    assert result.code == 0, result.stderr
    reads = [
        request for request in s3_server.requests if request.method == "GET" and "/tokenized_corpus/" in request.path
    ]
    assert not [request.path for request in reads if request.path.endswith(".bin")]
    assert {request.path.rpartition("/")[2] for request in reads if request.range is None} == {MARKER, "tokens.json"}
    assert any(request.path.endswith(".parquet") for request in reads)
    assert [request for request in s3_server.requests if request.lists] == []
