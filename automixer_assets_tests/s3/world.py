"""The tiny world with its lake at a URL."""

from __future__ import annotations

from pathlib import Path

from automixer_assets.lake_address import open_lake
from automixer_assets_tests.world import World, prepare_world


class RemoteWorld(World):
    """A world whose artefacts are in an object store; its folder holds settings, snapshots and events."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        super().__init__(folder)
        self.lake = open_lake(self.environment, self.state)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"AUTOMIXER_LAKE": self.url}


def create_remote_world(folder: Path, url: str) -> RemoteWorld:
    """As `create_world`."""
    world = prepare_world(folder, lambda place: RemoteWorld(place, url))
    assert isinstance(world, RemoteWorld)
    return world
