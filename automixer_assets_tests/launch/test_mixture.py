"""Joint influence and groups on a real Ray cluster of several nodes: the local bytes, whatever dies on the way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.launch import passes
from automixer_assets.launch.job import RunTasks, mixture_launcher
from automixer_assets.launch.joint import JointJob, write_joint_shards
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.mixture.passes import JointShard, PassesOver, passes_here
from automixer_assets.mixture.percentiles import write_percentile_ranges
from automixer_assets.mixture.regroup import regroup
from automixer_assets.scorers import Scorer
from automixer_assets.scorers._corpus import CorpusScorer, uniform_numbers
from automixer_assets.scorers.influence import InfluenceScorer
from automixer_assets.settings.launchers import Launchers, RayCluster
from automixer_assets_tests.launch.jobs import DyingOnce
from automixer_assets_tests.launch.nodes import contents, require_ray
from automixer_assets_tests.mixture.builders import Document
from automixer_assets_tests.mixture.builders import write_joint as joint_of
from automixer_assets_tests.mixture.test_percentiles import write_documents

require_ray()
RAY = Launchers(mixture="ray", ray=RayCluster(workers=2, attempts=2, gpus_per_worker=1))
GROUPS = (GroupOrigin("a", alpha=0.25), GroupOrigin("b", alpha=0.75))


def write_scored(root: Path, n_shards: int = 4) -> list[TokenShard]:
    """Tokenised shards without their tokens, and the scores of two groups, with ties and zeros."""
    shards = [TokenShard("S", f"shard-{number:05d}", root / "tokens", "<u2") for number in range(n_shards)]
    for number, shard in enumerate(shards):
        ids = [f"d{number}-{row}" for row in range(7 * number)]
        documents = {"doc_id": pa.array(ids, pa.string()), "n_tokens": pa.array(range(len(ids)), pa.int64())}
        for name, factor in (("tokens", 0.0), ("a", 0.1), ("b", -0.3)):
            (root / name).mkdir(parents=True, exist_ok=True)
            scores = pa.array([factor * (row % 5) for row in range(len(ids))], pa.float32())
            pq.write_table(pa.table({**documents, "influence_x": scores}), root / name / f"{shard.name}.parquet")
    return shards


def scorer_of(root: Path) -> InfluenceScorer:
    names = [group.name for group in GROUPS]
    folders = {name: {"S": root / name} for name in names}
    scaling = {name: Normalisation(0.125, 3.0) for name in names}
    return InfluenceScorer(GROUPS, folders, dict.fromkeys(names, ("influence_x",)), scaling)


def write_joint(scorer: Scorer, shards: list[TokenShard], out: Path, launchers: Launchers) -> list[int]:
    out.mkdir(exist_ok=True)
    done: list[int] = []
    run = mixture_launcher(launchers, print)
    write_joint_shards(JointJob(scorer, out), shards, on_progress=done.append, run=run)
    return done


@pytest.mark.parametrize("with_checkpoints", [True, False])
def test_joint_influence_is_that_of_the_local_run_and_finished_shards_stay(
    nodes: Any, tmp_path: Path, with_checkpoints: bool
) -> None:
    shards = write_scored(tmp_path)
    other = CorpusScorer(lambda shard, documents: uniform_numbers(documents, seed=7))
    scorer = scorer_of(tmp_path) if with_checkpoints else other
    assert write_joint(scorer, shards, tmp_path / "local", Launchers()) == [1, 1, 1, 1]
    local = contents(tmp_path / "local")
    (tmp_path / "ray").mkdir()
    kept = tmp_path / "ray" / "shard-00001.parquet"
    kept.write_bytes(local[kept.name])
    written = kept.stat().st_mtime_ns
    assert write_joint(scorer, shards, tmp_path / "ray", RAY) == [1, 1, 1, 1]
    assert contents(tmp_path / "ray") == local
    assert kept.stat().st_mtime_ns == written


def test_a_shard_that_cannot_be_blended_is_named_and_the_others_are_done(nodes: Any, tmp_path: Path) -> None:
    shards = write_scored(tmp_path)
    (tmp_path / "b" / "shard-00002.parquet").unlink()
    with pytest.raises(AutomixerError, match=r"1 of 4 shards failed 2 times.*: shard-00002: \S+b/shard-00002.parquet"):
        write_joint(scorer_of(tmp_path), shards, tmp_path / "ray", RAY)
    assert sorted(contents(tmp_path / "ray")) == [f"shard-{number:05d}.parquet" for number in (0, 1, 3)]


def documents_of(sizes: list[int]) -> list[Document]:
    """Documents of two snapshots: distinct utilities for one group, hardly any for the other."""
    return [
        Document(snapshot, f"shard-{shard:05d}", row, f"d{row}", row % 7, utilities, 0.1 * row - shard)
        for snapshot in "AB"
        for shard, size in enumerate(sizes)
        for row in range(size)
        for utilities in [{"a-1": math.sin(row + 100 * shard), "b.2": float(row % 2)}]
    ]


def group(joint: list[JointShard], paths: dict[tuple[str, str], Path], out: Path, over: PassesOver) -> dict[str, bytes]:
    regroup(joint=joint, top_share=0.37, out=out, passes_over=over)
    write_percentile_ranges(joint=joint, documents=paths, out=out / "percentile_ranges.parquet", passes_over=over)
    return contents(out)


def test_groups_are_those_of_the_local_run_though_workers_die(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = documents_of([40, 1, 25])
    joint = joint_of(tmp_path, documents, ["a-1", "b.2"])
    paths = write_documents(tmp_path, documents, [(0.1 * row, row % 5) for row, _ in enumerate(documents)])
    local = group(joint, paths, tmp_path / "local", passes_here)

    def dying(*arguments: Any, **options: Any) -> RunTasks:
        run = mixture_launcher(*arguments, **options)
        return lambda job, tasks, on_done: run(DyingOnce(job, tmp_path), tasks, on_done)

    monkeypatch.setattr(passes, "mixture_launcher", dying)
    said: list[str] = []
    with passes.mixture_passes(RAY, tmp_path / "scratch", said.append) as over:
        assert group(joint, paths, tmp_path / "ray", over) == local
    assert {path.name for path in tmp_path.glob("* died")} == {"AnswerJob died", "TieJob died", "EachJob died"}
    assert sum("failed, attempt 1 of 2: its worker was killed" in line for line in said) == 3, said


def test_shards_that_cannot_be_read_are_named(nodes: Any, tmp_path: Path) -> None:
    joint = joint_of(tmp_path, documents_of([20, 20]), ["a-1", "b.2"])
    content = joint[1].path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    joint[1].path.write_bytes(content[:4] + bytes(footer - 4) + content[footer:])
    with (
        passes.mixture_passes(RAY, tmp_path / "scratch", print) as over,
        pytest.raises(AutomixerError, match=r"1 of 4 tasks failed 2 times each, the others are done: A/shard-00001: "),
    ):
        regroup(joint=joint, top_share=0.5, out=tmp_path / "ray", passes_over=over)
