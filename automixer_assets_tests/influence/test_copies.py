"""Exact copies get one scoring: the same scores to the last bit, in their own rows, whatever was killed between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedModel

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.influence import (
    InfluenceQuery,
    PassOptions,
    copies,
    fit_query,
    score_distinct,
    score_shards,
)
from automixer_assets.influence.copies import exact_copies
from automixer_assets.influence.shard import shard_digest
from automixer_assets_tests.influence import tiny

OPTIONS = PassOptions(batch_tokens=40)
TEXTS = tiny.documents([4, 9, 1, 14, 6, 11])
# Text numbers by shard: 0 comes again in its own shard and in the third, whose documents are all copies.
LAYOUT = [[0, 1, 0, 2], [3, 1, 4], [2, 0, 3], [5]]


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.llama().float()


@pytest.fixture
def query(model: PreTrainedModel) -> InfluenceQuery:
    return fit_query(model, tiny.tasks(), tiny.reference())


def write_shards(folder: Path, layout: Sequence[Sequence[int]] = LAYOUT) -> list[TokenShard]:
    folder.mkdir()
    shards = []
    for index, numbers in enumerate(layout):
        name, documents = f"shard-{index:05d}", [TEXTS[number] for number in numbers]
        lengths = np.array([len(ids) for ids in documents])
        table = {
            "doc_id": [f"{index}-{row}" for row in range(len(numbers))],
            "content_hash": [f"h{number}" for number in numbers],
            "n_tokens": lengths,
            "offset": np.cumsum(lengths) - lengths,
        }
        pl.DataFrame(table).write_parquet(folder / f"{name}.parquet")
        np.concatenate(documents).astype("<u2").tofile(folder / f"{name}.bin")
        shards.append(TokenShard("snapshot", name, folder, "<u2"))
    return shards


def score(model: PreTrainedModel, query: InfluenceQuery, shards: list[TokenShard], out: Path) -> list[tuple[int, int]]:
    """Scores into `out`, distinct ones into `out/_scratch`; returns what was reported."""
    seen: list[tuple[int, int]] = []
    score_distinct(
        model,
        shards,
        query,
        out,
        scratch=out / "_scratch",
        model_digest="m",
        options=OPTIONS,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_copies_are_found_within_a_shard_and_across(tmp_path: Path) -> None:
    found = exact_copies(write_shards(tmp_path / "tokens"))
    assert found.select("shard", "row", "first_shard", "first_row").rows() == [
        ("shard-00000", 2, "shard-00000", 0),
        ("shard-00001", 1, "shard-00000", 1),
        ("shard-00002", 0, "shard-00000", 3),
        ("shard-00002", 1, "shard-00000", 0),
        ("shard-00002", 2, "shard-00001", 0),
    ]


def test_each_text_is_scored_once_and_copies_have_its_very_scores(
    model: PreTrainedModel, query: InfluenceQuery, tmp_path: Path
) -> None:
    shards = write_shards(tmp_path / "tokens")
    score(model, query, shards, tmp_path / "out")
    assert sum(pq.read_metadata(path).num_rows for path in (tmp_path / "out" / "_scratch").glob("*")) == len(TEXTS)
    score_shards(model, shards, query, tmp_path / "plain", model_digest="m", options=OPTIONS)
    by_text: dict[int, set[tuple[float, ...]]] = {}
    for shard, numbers in zip(shards, LAYOUT, strict=True):
        found, plain = (pq.read_table(tmp_path / name / f"{shard.name}.parquet") for name in ("out", "plain"))
        assert found.schema.equals(plain.schema, check_metadata=False)
        assert found.schema.metadata == plain.schema.metadata
        assert found.schema.metadata[b"automixer.shard"].decode() == shard_digest(shard)
        assert found.select(["doc_id", "n_tokens"]).equals(plain.select(["doc_id", "n_tokens"]))
        scores = [np.stack([t[c].to_numpy() for c in t.column_names[2:]], axis=1) for t in (found, plain)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-6)
        for number, row in zip(numbers, scores[0].tolist(), strict=True):
            by_text.setdefault(number, set()).add(tuple(row))
    assert [len(by_text[number]) for number in range(len(TEXTS))] == [1] * len(TEXTS)


def test_a_pass_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    model: PreTrainedModel, query: InfluenceQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_shards(tmp_path / "tokens")
    score(model, query, shards, tmp_path / "undisturbed")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copies, "_write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            score(model, query, shards, tmp_path / "out")
    (tmp_path / "out" / "_scratch" / "shard-00001.parquet").unlink()
    first = tmp_path / "out" / "_scratch" / "shard-00000.parquet"
    modified = first.stat().st_mtime_ns
    score(model, query, shards, tmp_path / "out")
    assert first.stat().st_mtime_ns == modified, "what was scored before is not scored again"
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_without_copies_nothing_differs_from_scoring_the_shards(
    model: PreTrainedModel, query: InfluenceQuery, tmp_path: Path
) -> None:
    shards = write_shards(tmp_path / "tokens", [[0, 1], [2, 3]])
    score(model, query, shards, tmp_path / "out")
    score_shards(model, shards, query, tmp_path / "plain", model_digest="m", options=OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "plain")
    assert not (tmp_path / "out" / "_scratch").exists()


def test_copies_count_as_done(model: PreTrainedModel, query: InfluenceQuery, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "tokens")
    seen = score(model, query, shards, tmp_path / "out")
    total = sum(len(TEXTS[number]) for numbers in LAYOUT for number in numbers)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    assert seen[0][0] >= total - sum(map(len, TEXTS))
