"""The whole pipeline with its lake in an object store: the same artefacts as on disk, read without listing anything."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from automixer_assets.catalogue import find_manifest, pinned_snapshots
from automixer_assets.events import all_events
from automixer_assets.mixture.stream import MixtureStream
from automixer_assets_tests.s3.conftest import new_bucket
from automixer_assets_tests.s3.server import S3Server
from automixer_assets_tests.s3.world import RemoteWorld, create_remote_world
from automixer_assets_tests.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def remote_world(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteWorld]:
    world = create_remote_world(tmp_path_factory.mktemp("remote") / "world", new_bucket(s3_server))
    world.run()
    yield world
    world.close()


def materialised(world: World) -> dict[tuple[str, str | None], tuple[str, str]]:
    """(asset, partition) -> (uri, content) of every event; an inventory's uri also tells its sources' age."""
    return {
        (event.asset, event.partition): ("" if event.asset == "snapshot_inventory" else event.uri, event.sha256)
        for event in all_events(world.instance)
    }


def test_digests_are_those_of_a_lake_on_disk(finished: World, remote_world: RemoteWorld):
    assert materialised(remote_world) == materialised(finished)


def test_nothing_was_listed(remote_world: RemoteWorld, s3_server: S3Server):
    assert [request.path for request in s3_server.requests if request.lists] == []


def test_a_second_run_finds_everything_current(remote_world: RemoteWorld):
    assert remote_world.run() == []


def test_a_mixture_streams_the_same_tokens(finished: World, remote_world: RemoteWorld):
    def sequences(world: World) -> list[np.ndarray]:
        manifest = find_manifest(world.instance, world.lake, "demo")
        root, snapshots = world.lake.root_with(manifest.selection_uris), pinned_snapshots(world.lake, manifest)
        return list(islice(MixtureStream(manifest, root, snapshots, sequence_length=64), 8))

    assert np.array_equal(sequences(remote_world), sequences(finished))
