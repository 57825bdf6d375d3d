"""A lake in an object store publishes whole artefacts or nothing, and gives back the bytes that were published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER, SCRATCH
from automixer_assets.remote_lake import RemoteLake
from automixer_assets_tests.s3.conftest import open_remote
from automixer_assets_tests.s3.server import S3Server


def write_hello(folder: Path) -> None:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "hello.txt").write_text("hello")
    (folder / SCRATCH).mkdir(exist_ok=True)


def refuse(folder: Path) -> None:
    raise AssertionError("must not run")


def test_what_one_machine_publishes_another_reads(remote: RemoteLake, tmp_path: Path):
    published = remote.publish("kind", "d1", write_hello)
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    copy = replace(published, folder=tmp_path / "elsewhere" / "kind" / "d1")
    assert elsewhere.publish("kind", "d1", refuse) == copy
    found = elsewhere.open("kind/d1")
    assert not found.folder.exists(), "asking does not fetch"
    assert (found.path / "sub" / "hello.txt").read_text() == "hello"
    assert sorted(path.name for path in found.path.iterdir()) == [MARKER, "sub"]


def test_opening_lists_nothing(remote: RemoteLake, s3_server: S3Server, tmp_path: Path):
    remote.publish("kind", "d1", write_hello)
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    s3_server.requests.clear()
    with elsewhere.in_use():
        assert (elsewhere.open("kind/d1").path / "sub" / "hello.txt").exists()
        assert elsewhere.find("kind", "d2") is None
    assert [request for request in s3_server.requests if request.lists] == []
    reads = [request.path.rpartition("/lake/")[2] for request in s3_server.requests if request.method == "GET"]
    assert reads == [".remover", f"kind/d1/{MARKER}", "kind/d1/sub/hello.txt", f"kind/d2/{MARKER}"]
    assert {request.method for request in s3_server.requests} == {"GET", "PUT", "DELETE"}


def test_a_missing_artefact_is_named(remote: RemoteLake):
    with pytest.raises(AutomixerError, match=r"s3://.*/lake/kind/gone is missing or incomplete"):
        remote.open("kind/gone")


def test_an_altered_object_is_named(remote: RemoteLake, tmp_path: Path):
    remote.publish("kind", "d1", write_hello)
    remote.store.delete("kind/d1/sub/hello.txt")
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    with pytest.raises(AutomixerError, match=r"kind/d1/sub/hello\.txt was deleted"):
        _ = elsewhere.open("kind/d1").path
    assert remote.store.create("kind/d1/sub/hello.txt", b"hell")
    with pytest.raises(AutomixerError, match=r"kind/d1/sub/hello\.txt was changed"):
        _ = elsewhere.open("kind/d1").path
    assert not list((elsewhere.root / "kind" / "d1").rglob("*.txt"))
