from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import mixture_data
from benchmarks.mixture_data import ScoredSet
from benchmarks.mixture_engines import CHECKPOINTS, ENGINES
from benchmarks.mixture_scale import Run, verify


def written(root: Path, n_documents: int, n_tasks: int) -> ScoredSet:
    data = ScoredSet(root, n_documents, tuple(f"task_{number}" for number in range(n_tasks)))
    data.write()
    return data


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_data, "SHARD_ROWS", 700)


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_all_engines_make_the_same_mixture(tmp_path: Path, n_tasks: int) -> None:
    data = written(tmp_path / "corpus", 2_001, n_tasks)
    runs = []
    for name, engine in ENGINES.items():
        (tmp_path / name).mkdir()
        runs.append(Run(name, data.n_documents, figures=engine(data, tmp_path / name, lambda _: nullcontext())))
    verify(runs)
    figures = runs[0].figures
    assert figures is not None
    assert set(figures["documents"].values()) == {1_001.0}
    wrong = {**figures, "documents": {**figures["documents"], CHECKPOINTS[0]: 1_000}}
    with pytest.raises(SystemExit, match=f"documents of {CHECKPOINTS[0]}"):
        verify([runs[0], replace(runs[1], figures=wrong)])


def test_a_larger_set_begins_with_the_documents_of_a_smaller_one(tmp_path: Path) -> None:
    small, large = written(tmp_path / "small", 1_400, 1), written(tmp_path / "large", 2_001, 1)
    later = {(shard.snapshot, shard.name): shard for shard in large.shards}
    for shard in small.shards:
        same = later[shard.snapshot, shard.name]
        assert shard.documents.read_bytes() == same.documents.read_bytes()
        for checkpoint in CHECKPOINTS:
            assert shard.influence[checkpoint].read_bytes() == same.influence[checkpoint].read_bytes()
