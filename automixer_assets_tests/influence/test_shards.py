"""Scoring a snapshot's shards: each once however many processes, whatever was killed, and never from other inputs."""

from __future__ import annotations

import fcntl
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedModel

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import InfluenceQuery, PassOptions, fit_query, score_shard, score_shards, shards
from automixer_assets.influence.query import KERNEL_VERSION
from automixer_assets.locks import claimed
from automixer_assets_tests.influence import tiny

OPTIONS = PassOptions(batch_tokens=40)
N_SHARDS = 6


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.llama().float()


@pytest.fixture
def query(model: PreTrainedModel) -> InfluenceQuery:
    return fit_query(model, tiny.tasks(), tiny.reference())


@pytest.fixture
def snapshot(tmp_path: Path) -> list[TokenShard]:
    (tmp_path / "tokens").mkdir()
    return [write_shard(tmp_path / "tokens", i, tiny.documents([4, 9, 1, 14], seed=i)) for i in range(N_SHARDS)]


def write_shard(folder: Path, index: int, documents: Sequence[list[int]]) -> TokenShard:
    lengths, name = [len(ids) for ids in documents], f"shard-{index:05d}"
    offsets = [sum(lengths[:i]) for i in range(len(lengths))]
    ids = [f"{index}-{i}" for i in range(len(documents))]
    pl.DataFrame({"doc_id": ids, "n_tokens": lengths, "offset": offsets}).write_parquet(folder / f"{name}.parquet")
    np.concatenate(documents).astype("<u2").tofile(folder / f"{name}.bin")
    return TokenShard("snapshot", name, folder, "<u2")


def run(
    model: PreTrainedModel, snapshot: list[TokenShard], query: InfluenceQuery, folder: Path, digest: str = "m"
) -> list[str]:
    """Names of the shards that this call wrote."""
    return [
        written.path.stem
        for written in score_shards(model, snapshot, query, folder, model_digest=digest, options=OPTIONS)
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_shard_gets_a_file_that_says_what_it_was_made_from(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    assert run(model, snapshot, query, tmp_path / "out") == [shard.name for shard in snapshot]
    assert sorted(contents(tmp_path / "out")) == [f"{shard.name}.parquet" for shard in snapshot]
    found = pq.read_table(tmp_path / "out" / "shard-00002.parquet")
    plain = pq.read_table(score_shard(model, snapshot[2], query, tmp_path / "plain.parquet", batch_tokens=40).path)
    assert found.equals(plain)
    metadata = found.schema.metadata
    assert metadata[b"automixer.query"].decode() == query.digest()
    assert (metadata[b"automixer.model"], metadata[b"automixer.kernel_version"]) == (b"m", KERNEL_VERSION.encode())
    assert b'"batch_tokens": 40' in metadata[b"automixer.options"]


def test_a_second_pass_writes_nothing(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    run(model, snapshot, query, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    assert run(model, snapshot, query, tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == before


def test_a_file_of_another_query_model_or_shard_is_made_again(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    out, every = tmp_path / "out", [shard.name for shard in snapshot]
    run(model, snapshot, query, out)
    other = fit_query(model, tiny.tasks(), [], curvature="identity")
    assert run(model, snapshot, other, out) == every
    assert run(model, snapshot, other, out, digest="n") == every
    changed = write_shard(tmp_path / "tokens", 3, tiny.documents([4, 9, 1, 14], seed=99))
    assert run(model, [*snapshot[:3], changed, *snapshot[4:]], other, out, digest="n") == ["shard-00003"]


def test_a_file_without_a_marker_or_cut_short_is_made_again(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(model, snapshot, query, out)
    undisturbed = contents(out)
    score_shard(model, snapshot[0], query, out / "shard-00000.parquet", batch_tokens=40)
    (out / "shard-00001.parquet").write_bytes(undisturbed["shard-00001.parquet"][:-20])
    (out / "shard-00002.parquet").unlink()
    (out / ".shard-00002.parquet.tmp").write_bytes(b"left by a killed run")
    (out / ".shard-00002.parquet.claim.tmp").touch()
    assert run(model, snapshot, query, out) == ["shard-00000", "shard-00001", "shard-00002"]
    assert contents(out) == undisturbed


def _work(snapshot: list[TokenShard], folder: Path, written: multiprocessing.Queue) -> None:
    """One of several processes: its own model and query, as they would be loaded from disk."""
    model = tiny.llama().float()
    query = fit_query(model, tiny.tasks(), tiny.reference())
    written.put(run(model, snapshot, query, folder))


def _in_processes(count: int, snapshot: list[TokenShard], folder: Path) -> list[str]:
    """Names of the shards that new processes wrote. Not forked: those would copy locks that this one's threads hold."""
    context = multiprocessing.get_context("spawn")
    written = context.Queue()
    workers = [context.Process(target=_work, args=(snapshot, folder, written)) for _ in range(count)]
    for worker in workers:
        worker.start()
    names = [written.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    return sorted(name for of_worker in names for name in of_worker)


def test_several_processes_score_each_shard_once(snapshot: list[TokenShard], tmp_path: Path) -> None:
    every = [shard.name for shard in snapshot]
    assert _in_processes(1, snapshot, tmp_path / "alone") == every
    assert _in_processes(3, snapshot, tmp_path / "out") == every
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def _hold(path: Path, held: multiprocessing.Queue) -> None:
    with claimed(path) as mine:
        held.put(mine)
        time.sleep(600)


def test_a_shard_claimed_by_another_process_is_left_to_it_until_it_dies(
    model: PreTrainedModel,
    query: InfluenceQuery,
    snapshot: list[TokenShard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Queue()
    holder = context.Process(target=_hold, args=(tmp_path / "out" / "shard-00001.parquet", held))
    holder.start()
    assert held.get(timeout=600)
    waited: list[set[str]] = []

    def kill_instead(_seconds: float) -> None:
        waited.append({path.stem for path in (tmp_path / "out").glob("shard-*.parquet")})
        holder.kill()
        holder.join()

    monkeypatch.setattr(shards.time, "sleep", kill_instead)
    done = run(model, snapshot, query, tmp_path / "out")
    assert waited == [{shard.name for shard in snapshot} - {"shard-00001"}]
    assert done == [shard.name for shard in snapshot]
    assert not list((tmp_path / "out").glob(".*"))


def test_a_claim_is_exclusive_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with claimed(path) as mine, claimed(path) as yours:
        assert (mine, yours) == (True, False)
    assert list(tmp_path.iterdir()) == []
    with claimed(path) as mine:
        assert mine


def test_a_lock_on_a_claim_that_its_holder_has_deleted_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, claim, plain = tmp_path / "a.parquet", tmp_path / ".a.parquet.claim.tmp", fcntl.flock
    late = iter([True])

    def lock(file: int, operation: int) -> None:
        if next(late, False):
            claim.unlink()  # the holder finishes between our open and our lock
        plain(file, operation)

    monkeypatch.setattr("automixer_assets.locks.fcntl.flock", lock)
    with claimed(path) as mine, claimed(path) as yours:
        assert (mine, yours) == (True, False), "ours must be a lock on the file that others see"


def test_progress_counts_tokens_of_all_shards_whoever_scored_them(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    run(model, snapshot[:2], query, tmp_path)
    seen: list[tuple[int, int]] = []
    score_shards(
        model, snapshot, query, tmp_path, model_digest="m", options=OPTIONS, on_progress=lambda *now: seen.append(now)
    )
    assert seen == sorted(seen)
    assert (seen[0], seen[1], seen[-1]) == ((28, 168), (56, 168), (168, 168))


def test_an_error_names_the_document_and_keeps_the_shards_done_by_then(
    model: PreTrainedModel, query: InfluenceQuery, snapshot: list[TokenShard], tmp_path: Path
) -> None:
    broken = write_shard(tmp_path / "tokens", 2, [[1, 2], [3, 99]])
    with pytest.raises(AutomixerError, match="document '2-1' of snapshot/shard-00002 holds token id 99"):
        run(model, [*snapshot[:2], broken, *snapshot[3:]], query, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["shard-00000.parquet", "shard-00001.parquet"]
