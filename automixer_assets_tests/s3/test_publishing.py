"""Publishing without a rename: killed, repeated and simultaneous writers."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from automixer_assets.lake import MARKER
from automixer_assets.lake_removal import discard, nothing_running, unfinished
from automixer_assets.remote_lake import OTHER, RemoteLake
from automixer_assets_tests.s3.conftest import open_remote

FILES = {f"part-{number}": bytes([number]) * 1000 for number in range(4)}


def write_parts(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def keys(lake: RemoteLake) -> list[str]:
    return [each.key for each in lake.store.list_below("")]


def die_after(url: str, cache: Path, uploads: int) -> None:
    """Publish in this process, and kill it when the store holds so many objects of the artefact."""
    lake = open_remote(url, cache)
    upload, done = lake.store.upload, [0]

    def counted(key: str, source: Path) -> bool:
        if done[0] == uploads:
            os.kill(os.getpid(), signal.SIGKILL)
        done[0] += 1
        return upload(key, source)

    lake.store.upload = counted  # type: ignore[method-assign]
    create = lake.store.create
    lake.store.create = lambda key, content: counted("", Path()) if uploads == len(FILES) else create(key, content)  # type: ignore[method-assign]
    lake.publish("kind", "d1", write_parts)


@pytest.mark.parametrize("uploads", [0, 2, len(FILES)])
def test_a_killed_upload_is_invisible_and_goes_on(remote: RemoteLake, tmp_path: Path, uploads: int):
    killed = multiprocessing.get_context("spawn").Process(
        target=die_after, args=(remote.store.url, remote.root, uploads)
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert len(keys(remote)) == uploads
    assert remote.find("kind", "d1") is None
    assert [each.uri for each in unfinished(remote)] == ["kind/d1"]

    def refuse(folder: Path) -> None:
        raise AssertionError("what was written is whole: nothing is to be written again")

    remote.publish("kind", "d1", refuse)
    assert keys(remote) == sorted([f"kind/d1/{name}" for name in [*FILES, MARKER]])
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere").open("kind/d1")
    assert {name: (elsewhere.path / name).read_bytes() for name in FILES} == FILES
    assert unfinished(remote) == []


def test_a_removal_sweeps_what_a_killed_upload_left(remote: RemoteLake):
    remote.store.create("kind/d1/part-0", b"0")
    remote.publish("kind", "d2", write_parts)
    with nothing_running(remote):
        for each in unfinished(remote):
            discard(remote, each.uri, each.path)
    assert {key.rpartition("/")[0] for key in keys(remote)} == {"kind/d2"}
    assert [each.uri for each in remote.artifacts()] == ["kind/d2"]


def test_the_later_of_two_writers_takes_what_the_first_published(remote: RemoteLake, tmp_path: Path):
    """Both wrote, since neither saw the other; their bytes differ, as do those that say when they ran."""
    other = open_remote(remote.store.url, tmp_path / "other")

    def write_early(folder: Path) -> None:
        (folder / "when").write_text("early")

    def write_slowly(folder: Path) -> None:
        (folder / "when").write_text("late")
        other.publish("kind", "d1", write_early)

    published = remote.publish("kind", "d1", write_slowly)
    assert (published.path / "when").read_text() == "early"
    assert published == remote.find("kind", "d1")
    assert [key for key in keys(remote) if OTHER not in key] == [f"kind/d1/{MARKER}", "kind/d1/when"]


def test_bytes_that_another_left_under_a_name_are_never_read(remote: RemoteLake, tmp_path: Path):
    remote.store.create("kind/d1/part-1", b"of a writer that died")
    remote.publish("kind", "d1", write_parts)
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere").open("kind/d1")
    assert {name: (elsewhere.path / name).read_bytes() for name in FILES} == FILES
