"""Queries and scored shards on disk: round trips, refusals, row alignment, reproducible bytes, light imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from transformers import PreTrainedModel

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import (
    KERNEL_VERSION,
    InfluenceQuery,
    fit_query,
    merge_queries,
    model_digest,
    score_documents,
    score_shard,
)
from automixer_assets_tests.influence import tiny


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.llama().float()


@pytest.fixture
def query(model: PreTrainedModel) -> InfluenceQuery:
    return fit_query(model, tiny.tasks(), tiny.reference())


@pytest.fixture
def shard(tmp_path: Path) -> TokenShard:
    corpus = tiny.corpus()
    lengths = [len(ids) for ids in corpus]
    offsets = [sum(lengths[:i]) for i in range(len(lengths))]
    names = [f"doc-{i}" for i in range(len(corpus))]
    pl.DataFrame({"doc_id": names, "n_tokens": lengths, "offset": offsets}).write_parquet(
        tmp_path / "shard-00000.parquet"
    )
    np.concatenate(corpus).astype("<u2").tofile(tmp_path / "shard-00000.bin")
    return TokenShard("snapshot", "shard-00000", tmp_path, "<u2")


def test_a_saved_query_loads_equal_and_scores_equal(
    model: PreTrainedModel, query: InfluenceQuery, tmp_path: Path
) -> None:
    merged = merge_queries({"a": query, "b": fit_query(model, tiny.tasks(), [], curvature="identity")})
    merged.save(tmp_path / "query", model_digest="m", tokenizer_digest="t")
    loaded = InfluenceQuery.load(tmp_path / "query", model_digest="m", tokenizer_digest="t")
    assert (loaded.directions, loaded.loss, loaded.layers) == (merged.directions, merged.loss, merged.layers)
    assert loaded.lambda_["head"][2:] == (None, None)
    assert all(torch.equal(loaded.r[layer], merged.r[layer]) for layer in merged.layers)
    assert score_documents(model, tiny.corpus(), loaded).equals(score_documents(model, tiny.corpus(), merged))
    sidecar = json.loads((tmp_path / "query" / "query.json").read_text())
    assert sidecar["kernel_version"] == KERNEL_VERSION
    assert sidecar["directions"][0]["name"] == "a_answers"
    assert sidecar["directions"][0]["weights"] == {"answers": 1.0}


def test_a_pool_s_weights_are_saved(model: PreTrainedModel, tmp_path: Path) -> None:
    pool = {"all": {"answers": 0.25, "sequences": 0.75}}
    fit_query(model, tiny.tasks(), tiny.reference(), pool=pool).save(tmp_path, model_digest="m", tokenizer_digest="t")
    loaded = InfluenceQuery.load(tmp_path, model_digest="m", tokenizer_digest="t")
    assert {direction.name: direction.weights for direction in loaded.directions} == pool


@pytest.mark.parametrize(
    ("digests", "named"),
    [
        ({"model_digest": "other", "tokenizer_digest": "t"}, "model_digest m, not other"),
        ({"model_digest": "m", "tokenizer_digest": "other"}, "tokenizer_digest t, not other"),
    ],
)
def test_a_query_of_another_model_or_tokenizer_is_refused(
    query: InfluenceQuery, tmp_path: Path, digests: dict[str, str], named: str
) -> None:
    query.save(tmp_path, model_digest="m", tokenizer_digest="t")
    with pytest.raises(AutomixerError, match=named):
        InfluenceQuery.load(tmp_path, **digests)


def test_a_query_of_another_kernel_version_is_refused(query: InfluenceQuery, tmp_path: Path) -> None:
    query.save(tmp_path, model_digest="m", tokenizer_digest="t")
    sidecar = json.loads((tmp_path / "query.json").read_text())
    (tmp_path / "query.json").write_text(json.dumps({**sidecar, "kernel_version": "0"}))
    with pytest.raises(AutomixerError, match="kernel_version 0"):
        InfluenceQuery.load(tmp_path, model_digest="m", tokenizer_digest="t")


def test_a_folder_without_a_query_is_named(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match="holds no influence query"):
        InfluenceQuery.load(tmp_path, model_digest="m", tokenizer_digest="t")


def test_queries_that_differ_are_not_merged(model: PreTrainedModel, query: InfluenceQuery) -> None:
    with pytest.raises(AutomixerError, match="'a' and 'b' differ"):
        merge_queries({"a": query, "b": fit_query(model, tiny.tasks(), tiny.reference(), loss="sum")})
    with pytest.raises(AutomixerError, match="got no query"):
        merge_queries({})


def test_the_model_digest_follows_weights_and_config(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    first = model_digest(tmp_path)
    assert first == model_digest(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert first == model_digest(tmp_path)
    with torch.no_grad():
        tiny.matrices(model)["head"][0, 0] += 1
    model.save_pretrained(tmp_path)
    assert first != model_digest(tmp_path)


def test_a_checkpoint_folder_that_lacks_files_is_refused_by_their_names(model: PreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"lacks config.json, \*.safetensors"):
        model_digest(tmp_path / "nothing")
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    parts = sorted(tmp_path.glob("*.safetensors"))
    assert len(parts) > 1
    parts[0].unlink()
    with pytest.raises(AutomixerError, match=f"lacks {parts[0].name}: copy the checkpoint again"):
        model_digest(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(AutomixerError, match=f"lacks config.json, {parts[0].name}"):
        model_digest(tmp_path)


def test_a_scored_shard_is_row_aligned_and_holds_the_documents_scores(
    model: PreTrainedModel, query: InfluenceQuery, shard: TokenShard, tmp_path: Path
) -> None:
    written = score_shard(model, shard, query, tmp_path / "scores" / "s.parquet", batch_tokens=40)
    scores = pq.read_table(written.path)
    expected = score_documents(model, tiny.corpus(), query, batch_tokens=40)
    assert scores.column_names == ["doc_id", "n_tokens", "loss", "influence_answers", "influence_sequences"]
    assert [str(t) for t in scores.schema.types] == ["string", "int64", "float", "float", "float"]
    assert scores["doc_id"].to_pylist() == shard.documents["doc_id"].to_list()
    assert all(scores[name].equals(expected[name]) for name in expected.column_names)
    assert (written.n_documents, written.n_tokens, written.n_quarantined) == (10, 103, 0)
    assert [path.name for path in written.path.parent.iterdir()] == ["s.parquet"]


def test_scoring_a_shard_again_writes_the_same_bytes(
    model: PreTrainedModel, query: InfluenceQuery, shard: TokenShard, tmp_path: Path
) -> None:
    files = [score_shard(model, shard, query, tmp_path / f"{i}.parquet", batch_tokens=40).path for i in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_progress_counts_predicted_tokens(
    model: PreTrainedModel, query: InfluenceQuery, shard: TokenShard, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    score_shard(model, shard, query, tmp_path / "s", batch_tokens=40, on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (93, 93)


def test_a_failed_pass_leaves_no_file(
    model: PreTrainedModel, query: InfluenceQuery, shard: TokenShard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(table: object, file: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("automixer_assets.influence.shard.pq.write_table", torn)
    with pytest.raises(OSError, match="disk full"):
        score_shard(model, shard, query, tmp_path / "scores" / "s.parquet", batch_tokens=40)
    assert list((tmp_path / "scores").iterdir()) == []


def test_a_shard_error_names_doc_id_and_shard(
    model: PreTrainedModel, query: InfluenceQuery, shard: TokenShard, tmp_path: Path
) -> None:
    ids = np.fromfile(shard.tokens_path, dtype="<u2")
    ids[6] = 999
    ids.tofile(shard.tokens_path)
    with pytest.raises(AutomixerError, match="document 'doc-1' of snapshot/shard-00000 holds token id 999"):
        score_shard(model, shard, query, tmp_path / "s.parquet", batch_tokens=40)


def test_importing_the_package_leaves_torch_and_transformers_out() -> None:
    code = "import sys, automixer_assets.influence; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
