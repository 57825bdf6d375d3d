"""What does not fit on this machine is read where it lies: SQL by ranges, everything else a file at a time."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automixer_assets import object_store
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lake_cache import KEPT_FILES
from automixer_assets.mixture.parquet import read_columns
from automixer_assets.mixture.sql import run_sql
from automixer_assets.remote_lake import RemoteLake
from automixer_assets_tests.s3.conftest import open_remote
from automixer_assets_tests.s3.server import Answer, Request, S3Server, first, xml_error

ROWS, SHARDS = 2000, 3
SMALL = 400_000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "FIRST_WAIT_SECONDS", 0.001)


def joint_table(shard: int) -> pa.Table:
    """Of which `doc_id` is most: random letters that no code makes smaller."""
    numbers = np.random.default_rng(shard)
    ids = ["".join(map(chr, letters)) for letters in numbers.integers(40, 120, size=(ROWS, 600))]
    return pa.table(
        {"doc_id": ids, "n_tokens": np.arange(ROWS) + shard, "joint_utility": numbers.standard_normal(ROWS)}
    )


def write_shards(folder: Path) -> None:
    for shard in range(SHARDS):
        pq.write_table(joint_table(shard), folder / f"shard-{shard:05d}.parquet", use_dictionary=False)
    (folder / "note.json").write_text("{}")


@pytest.fixture
def small(remote: RemoteLake, s3_server: S3Server, tmp_path: Path) -> RemoteLake:
    """Another machine, whose disk holds less than one of the shards."""
    remote.publish("joint", "d1", write_shards)
    s3_server.requests.clear()
    return open_remote(remote.store.url, tmp_path / "small", SMALL)


def totals(artifact: Artifact) -> dict[str, int]:
    files = [str(path) for path in sorted(artifact.by_file.glob("shard-*.parquet"))]
    assert len(files) == SHARDS
    return run_sql("candidate_totals", {"files": files}).to_pylist()[0]


EXPECTED = {
    "n_candidates": SHARDS * ROWS,
    "candidate_tokens": sum(ROWS * (ROWS - 1) // 2 + shard * ROWS for shard in range(SHARDS)),
    "n_unusable": 0,
}


def test_sql_reads_the_columns_that_it_needs_and_copies_nothing(small: RemoteLake, s3_server: S3Server):
    artifact = small.open("joint/d1")
    assert min(size for name, size in artifact.sizes.items() if name.startswith("shard")) > small.cache.limit
    assert totals(artifact) == EXPECTED
    asked = [request.range for request in s3_server.requests if request.range is not None]
    read = sum(end - start for start, end in asked)
    whole = sum(artifact.sizes.values())
    assert 0 < read < whole / 2, f"{read} of {whole} bytes"
    assert not list(artifact.folder.glob("*")), "nothing is copied"
    assert [request for request in s3_server.requests if request.lists] == []


def test_names_in_views_and_results_are_the_callers(small: RemoteLake):
    path = small.open("joint/d1").by_file / "shard-00001.parquet"
    table = run_sql("candidate_totals", {"files": [str(path)]})
    assert table["candidate_tokens"].to_pylist() == [ROWS * (ROWS - 1) // 2 + ROWS]


def test_ranges_that_are_cut_or_throttled_are_asked_for_again(
    small: RemoteLake, s3_server: S3Server, caplog: pytest.LogCaptureFixture
):
    def cut(request: Request) -> Answer | None:
        return Answer(cut=100) if request.range is not None else None

    def throttle(request: Request) -> Answer | None:
        return xml_error("503 Slow Down", "SlowDown") if request.range is not None else None

    s3_server.faults += [first(3, cut), first(4, throttle)]
    with caplog.at_level(logging.WARNING):
        assert totals(small.open("joint/d1")) == EXPECTED
    assert small.store.retries == 7
    assert any("SlowDown" in record.getMessage() for record in caplog.records)


def test_a_store_that_stays_down_ends_a_statement_in_a_sentence(small: RemoteLake, s3_server: S3Server):
    artifact = small.open("joint/d1")
    s3_server.faults.append(
        lambda request: xml_error("503 Slow Down", "SlowDown") if request.range is not None else None
    )
    with pytest.raises(AutomixerError, match=r"joint/d1/shard-0000\d.parquet failed 8 times .* see whether the store"):
        totals(artifact)


def test_an_object_of_another_size_is_not_read(small: RemoteLake):
    artifact = small.open("joint/d1")
    key = "joint/d1/shard-00000.parquet"
    whole = small.store.read(key)
    assert whole is not None
    small.store.delete(key)
    small.store.create(key, whole + b"?")
    with pytest.raises(AutomixerError, match=r"s3://.*/shard-00000\.parquet was changed: it has .* were published"):
        totals(artifact)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_its_successor(small: RemoteLake):
    key = "joint/d1/shard-00000.parquet"
    opened, whole = small.store.open(key), small.store.read(key)
    assert opened is not None
    assert whole is not None
    assert opened.read(10, 20) == whole[10:20]
    small.store.delete(key)
    small.store.create(key, bytes(len(whole)))
    with pytest.raises(AutomixerError, match=r"shard-00000\.parquet was deleted or replaced while it was read"):
        opened.read(20, 30)


def test_one_file_is_fetched_alone(small: RemoteLake, s3_server: S3Server):
    artifact = small.open("joint/d1")
    s3_server.requests.clear()
    assert artifact.file("note.json").read_text() == "{}"
    assert artifact.file("note.json").read_text() == "{}"
    assert (artifact.by_file / "note.json").read_text() == "{}"
    assert [request.path.rpartition("/")[2] for request in s3_server.requests] == ["note.json"]
    assert not artifact.file("absent.json").exists()


def test_files_that_were_read_make_room_for_the_next(remote: RemoteLake, tmp_path: Path):
    n_files, size = 2 * KEPT_FILES, 10_000

    def write_many(folder: Path) -> None:
        for number in range(n_files):
            (folder / f"{number:02d}.bin").write_bytes(bytes([number]) * size)

    remote.publish("kind", "d1", write_many)
    limit = (KEPT_FILES + 4) * size
    small = open_remote(remote.store.url, tmp_path / "small", limit)
    with small.in_use():
        folder = small.open("kind/d1").by_file
        first_file = (folder / "00.bin").open("rb")
        for path in sorted(folder.iterdir()):
            assert path.read_bytes() == bytes([int(path.stem)]) * size
            assert sum(copy.size for copy in small.cache.copies()) <= limit
        with first_file:
            assert not (small.root / "kind/d1/00.bin").exists()
            assert first_file.read() == bytes(size), "what was opened is read to its end"
        assert (folder / "00.bin").read_bytes() == bytes(size), "it comes again"
        with pytest.raises(AutomixerError, match="AUTOMIXER_LAKE_CACHE_BYTES allows"):
            _ = small.open("kind/d1").path


def test_what_another_process_reads_stays(remote: RemoteLake, tmp_path: Path):
    """Two caches on one folder hold their copies as two processes do."""

    def write_many(folder: Path) -> None:
        for number in range(KEPT_FILES + 4):
            (folder / f"{number:02d}").write_bytes(bytes(1000))

    remote.publish("kind", "d1", write_many)
    mine, other = (open_remote(remote.store.url, tmp_path / "both", (KEPT_FILES + 3) * 1000) for _ in range(2))
    other.cache.hold("kind/d1")
    folder = mine.open("kind/d1").by_file
    with pytest.raises(AutomixerError, match="raise it, or run fewer at once"):
        for path in sorted(folder.iterdir()):
            path.read_bytes()
    other.cache.release()
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == bytes(1000)


def test_paths_outlive_the_lake_that_gave_them(remote: RemoteLake, tmp_path: Path):
    """A process may open the lake again, on the same folder of copies."""
    for digest in ("d1", "d2"):
        remote.publish("kind", digest, lambda folder: (folder / "x").write_bytes(b"x") and None)
    lakes = [open_remote(remote.store.url, tmp_path / "both") for _ in range(2)]
    first_path, second_path = (
        lake.open(f"kind/{digest}").by_file / "x" for lake, digest in zip(lakes, ("d1", "d2"), strict=True)
    )
    assert first_path.read_bytes() == second_path.read_bytes() == b"x"
    assert pickle.loads(pickle.dumps(second_path.parent)) == tmp_path / "both" / "kind" / "d2"


def test_paths_answer_as_those_on_disk(remote: RemoteLake, s3_server: S3Server, tmp_path: Path):
    def write_tree(folder: Path) -> None:
        (folder / "groups" / "a").mkdir(parents=True)
        pl.DataFrame({"x": [1, 2]}).write_parquet(folder / "groups" / "a" / "s.parquet")
        (folder / "top.json").write_text("{}")

    on_disk = remote.publish("kind", "d1", write_tree).path
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    there = elsewhere.open("kind/d1").by_file
    s3_server.requests.clear()

    def relative(paths: list[Path], root: Path) -> list[str]:
        return sorted(path.relative_to(root).as_posix() for path in paths if path.name != "_COMPLETE.json")

    for pattern in ("*", "*.json", "groups/*/*.parquet", "*/*"):
        assert relative(list(there.glob(pattern)), there) == relative(list(on_disk.glob(pattern)), on_disk)
    assert relative(list(there.rglob("*.parquet")), there) == ["groups/a/s.parquet"]
    assert relative(list((there / "groups").iterdir()), there) == ["groups/a"]
    for name in ("groups", "top.json", "absent", "groups/a/s.parquet"):
        found, expected = there / name, on_disk / name
        assert (found.exists(), found.is_file(), found.is_dir()) == (
            expected.exists(),
            expected.is_file(),
            expected.is_dir(),
        )
    assert (there / "top.json").stat().st_size == 2
    assert s3_server.requests == [], "the marker has told all that"
    assert read_columns(there / "groups" / "a" / "s.parquet", ["x"]).num_rows == 2
    assert pl.scan_parquet(there / "groups" / "*" / "*.parquet").collect()["x"].to_list() == [1, 2]
