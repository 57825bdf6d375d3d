"""A lake is copied between a folder and an object store by any tool, and names stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from automixer_assets.errors import ConfigurationError
from automixer_assets.lake import Lake
from automixer_assets.lake_address import open_lake
from automixer_assets.remote_lake import RemoteLake


def write_two(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "one").write_text("1")
    (folder / "two").write_text("2")


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_from_a_folder_to_a_store(remote: RemoteLake, tmp_path: Path):
    local = Lake(tmp_path / "lake")
    published = local.publish("kind", "d1", write_two)
    remote.store.filesystem.put(f"{local.root}/kind/d1/", remote.store.path("kind/d1/"), recursive=True)
    found = remote.open(published.uri)
    assert (found.content, found.files, found.sizes) == (published.content, published.files, published.sizes)
    assert bytes_below(found.path) == bytes_below(published.path)


def test_from_a_store_to_a_folder(remote: RemoteLake, tmp_path: Path):
    published = remote.publish("kind", "d1", write_two)
    remote.store.filesystem.get(remote.store.path("kind/d1/"), f"{tmp_path}/lake/kind/d1/", recursive=True)
    found = Lake(tmp_path / "lake").open("kind/d1")
    assert bytes_below(found.path) == bytes_below(published.path)
    assert (found.content, found.files) == (published.content, published.files)


def test_the_environment_names_the_lake(tmp_path: Path):
    assert open_lake({}, tmp_path).root == tmp_path / "lake"
    assert open_lake({"AUTOMIXER_LAKE": str(tmp_path / "x")}, tmp_path).root == tmp_path / "x"
    lake = open_lake({"AUTOMIXER_LAKE": "s3://b/p/", "AUTOMIXER_LAKE_CACHE_BYTES": "1e9"}, tmp_path)
    assert isinstance(lake, RemoteLake)
    assert (lake.store.url, lake.root, lake.cache.limit) == ("s3://b/p", tmp_path / "lake-cache", 10**9)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AUTOMIXER_LAKE_CACHE_BYTES", "much", "AUTOMIXER_LAKE_CACHE_BYTES=much is no number of bytes"),
        ("AUTOMIXER_LAKE_OPTIONS", '{"secret": "x"}', "holds 'secret': credentials are read from their own variables"),
        ("AUTOMIXER_LAKE_OPTIONS", "anon", "AUTOMIXER_LAKE_OPTIONS is not JSON"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(tmp_path: Path, variable: str, value: str, said: str):
    with pytest.raises(ConfigurationError, match=said):
        open_lake({"AUTOMIXER_LAKE": "s3://b/p", variable: value}, tmp_path)
