"""The lake publishes whole folders or nothing, once per digest, and says what is wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER, SCRATCH, Lake, Written, digest_of


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def _hello(folder: Path) -> None:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "hello.txt").write_text("hello")


def test_a_published_folder_is_found_by_digest_and_never_written_again(lake: Lake):
    first = lake.publish("kind", "d1", _hello)

    def refuse(folder: Path) -> None:
        raise AssertionError("must not run")

    assert lake.publish("kind", "d1", refuse) == first
    assert first.files == {"sub/hello.txt": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    assert lake.open(first.uri) == first


def test_content_depends_on_files_alone(lake: Lake):
    assert lake.publish("kind", "d1", _hello).content == lake.publish("kind", "d2", _hello).content

    def write_other(folder: Path) -> None:
        (folder / "x").write_text("y")

    other = lake.publish("kind", "d3", write_other)
    assert other.content != lake.open("kind/d1").content


def test_a_writer_may_state_its_own_content_digest(lake: Lake):
    assert lake.publish("kind", "d1", lambda folder: Written(content="mine")).content == "mine"


def test_a_failed_writer_leaves_nothing_visible(lake: Lake):
    def fail(folder: Path) -> None:
        _hello(folder)
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        lake.publish("kind", "d1", fail)
    assert lake.find("kind", "d1") is None
    assert not (lake.root / "kind" / "d1").exists()


def test_only_a_resumable_writer_sees_what_a_failed_one_left(lake: Lake):
    def fail(folder: Path) -> None:
        (folder / "part").write_text("1")
        raise RuntimeError("boom")

    seen: list[bool] = []

    def look(folder: Path) -> None:
        seen.append((folder / "part").exists())
        (folder / "part").write_text("1")

    for resumable in (True, False):
        with pytest.raises(RuntimeError):
            lake.publish("kind", f"d{resumable}", fail, resumable=True)
        lake.publish("kind", f"d{resumable}", look, resumable=resumable)
    assert seen == [True, False]


def test_scratch_is_not_published(lake: Lake):
    def write(folder: Path) -> None:
        (folder / SCRATCH).mkdir()
        (folder / SCRATCH / "cache").write_text("x")
        _hello(folder)

    artifact = lake.publish("kind", "d1", write)
    assert sorted(path.name for path in artifact.path.iterdir()) == [MARKER, "sub"]


def test_a_deleted_file_is_named(lake: Lake):
    artifact = lake.publish("kind", "d1", _hello)
    (artifact.path / "sub" / "hello.txt").unlink()
    with pytest.raises(AutomixerError, match=r"sub/hello\.txt was deleted"):
        lake.open(artifact.uri)


def test_a_missing_artefact_is_named(lake: Lake):
    with pytest.raises(AutomixerError, match="kind/gone is missing"):
        lake.open("kind/gone")


def test_no_space_left_is_one_sentence(lake: Lake):
    def fill(folder: Path) -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    with pytest.raises(AutomixerError, match="no disk space left while writing"):
        lake.publish("kind", "d1", fill)
    assert lake.publish("kind", "d1", _hello).path.exists()


def test_too_little_space_is_refused_before_writing(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("automixer_assets.lake.MINIMUM_FREE_BYTES", 2**62)
    with pytest.raises(AutomixerError, match="MiB of disk space left"):
        lake.publish("kind", "d1", _hello)


def _hold(root: Path, entered: Event) -> None:
    def wait(folder: Path) -> None:
        (folder / "part").write_text("1")
        entered.set()
        signal.pause()

    Lake(root).publish("kind", "d1", wait, resumable=True)


def test_a_second_writer_is_refused_and_a_killed_one_blocks_nobody(lake: Lake):
    context = multiprocessing.get_context("spawn")
    entered = context.Event()
    process = context.Process(target=_hold, args=(lake.root, entered))
    process.start()
    try:
        assert entered.wait(30)
        with pytest.raises(AutomixerError, match=f"is being written by process {process.pid}"):
            lake.publish("kind", "d1", _hello)
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    artifact = lake.publish("kind", "d1", _hello, resumable=True)
    assert sorted(artifact.files) == ["part", "sub/hello.txt"]


def test_digest_ignores_key_order_and_sees_every_value():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert len(digest_of("x")) == 32


def test_temporary_names_that_a_killed_run_left_are_never_published(lake: Lake):
    def killed(folder: Path) -> None:
        (folder / ".shard.parquet.tmp").write_text("half")
        (folder / ".step.tmp").mkdir()
        (folder / ".step.tmp" / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.publish("kind", "d1", killed, resumable=True)
    assert list(lake.publish("kind", "d1", _hello, resumable=True).files) == ["sub/hello.txt"]
