"""The fast kernels give the numbers of the slow reference, for every architecture, layer set and text shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import PreTrainedModel

from automixer_assets.influence import InfluenceQuery, fit_query, score_documents
from automixer_assets.influence.reference import ReferenceQuery, slow_loss, slow_query, slow_scores
from automixer_assets_tests.influence import tiny

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny.llama(kv_heads=4),
    "llama-gqa": lambda: tiny.llama(kv_heads=1),
    "llama-tied": lambda: tiny.llama(tied=True),
    "llama-padding-id": lambda: tiny.llama(pad_token_id=3),
    "llama-tied-padding-id": lambda: tiny.llama(tied=True, pad_token_id=3),
    "gpt2": tiny.gpt2,
    "gpt-neox": tiny.gpt_neox,
}
LINEARS: dict[str, tuple[str, ...]] = {
    "llama": ("head", "model.layers.0.mlp.down_proj", "model.layers.1.self_attn.k_proj"),
    "llama-gqa": ("model.layers.1.self_attn.v_proj",),
    "llama-tied": ("embedding", "model.layers.1.mlp.gate_proj"),
    "gpt2": ("embedding", "transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc"),
    "gpt-neox": ("embedding", "head", "gpt_neox.layers.1.attention.query_key_value"),
}


def influence(table: pa.Table, query: InfluenceQuery) -> np.ndarray:
    return np.stack([table[f"influence_{name}"].to_numpy() for name in query.names], axis=1)


def fast(model: PreTrainedModel, **options: Any) -> tuple[InfluenceQuery, pa.Table]:
    query = fit_query(model, tiny.tasks(), tiny.reference(), **options)
    return query, score_documents(model, tiny.corpus(), query)


def slow(model: PreTrainedModel, **options: Any) -> tuple[ReferenceQuery, np.ndarray]:
    query = slow_query(model, tiny.tasks(), tiny.reference(), **options)
    of_scores = {key: value for key, value in options.items() if key != "curvature"}
    return query, slow_scores(model, tiny.corpus(), query, **of_scores).numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    assert np.abs(found - expected).max() <= relative * np.abs(expected).max()


@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_the_slow_reference_s(name: str, curvature: str) -> None:
    model = MODELS[name]().eval()
    query, table = fast(model, curvature=curvature)
    _, expected = slow(model, curvature=curvature)
    assert_close(influence(table, query), expected, 1e-9)
    assert table["influence_answers"].type == pa.float64()


@pytest.mark.parametrize("layers", [("embedding",), ("head",)])
@pytest.mark.parametrize("loss", ["mean", "sum"])
def test_single_layers_and_sum_loss_agree(layers: tuple[str, ...], loss: Any) -> None:
    model = tiny.llama()
    query, table = fast(model, layers=layers, loss=loss)
    _, expected = slow(model, layers=layers, loss=loss)
    assert query.layers == layers
    assert_close(influence(table, query), expected, 1e-9)


@pytest.mark.parametrize("curvature", ["datainf", "identity"])
@pytest.mark.parametrize("name", LINEARS)
def test_linear_layers_of_the_body_agree(name: str, curvature: str) -> None:
    model = MODELS[name]().eval()
    query, table = fast(model, curvature=curvature, layers=LINEARS[name])
    _, expected = slow(model, curvature=curvature, layers=LINEARS[name])
    assert query.layers == LINEARS[name]
    assert_close(influence(table, query), expected, 1e-9)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_last_block_is_every_linear_layer_in_it(name: str) -> None:
    model = MODELS[name]().eval()
    query, table = fast(model, layers=("last_block",), loss="sum")
    prefix = "model.layers.1." if name == "llama" else "transformer.h.1."
    assert all(layer.startswith(prefix) for layer in query.layers)
    assert len(query.layers) == (7 if name == "llama" else 4)
    _, expected = slow(model, layers=query.layers, loss="sum")
    assert_close(influence(table, query), expected, 1e-9)


@pytest.mark.parametrize("layers", [("embedding",), ("head",)])
def test_kfac_of_a_single_layer_agrees(layers: tuple[str, ...]) -> None:
    model = tiny.llama()
    query, table = fast(model, curvature="kfac", layers=layers, max_length=7)
    reference = slow_query(model, tiny.tasks(), tiny.reference(), curvature="kfac", layers=layers, max_length=7)
    expected = slow_scores(model, tiny.corpus(), reference, layers=layers).numpy()
    assert_close(influence(table, query), expected, 1e-9)


@pytest.mark.parametrize("curvature", ["datainf", "kfac"])
@pytest.mark.parametrize("tied", [False, True])
def test_v_lambda_and_r_are_the_slow_reference_s(tied: bool, curvature: str) -> None:
    model = tiny.llama(tied=tied)
    query, _ = fast(model, curvature=curvature)
    expected, _ = slow(model, curvature=curvature)
    assert query.layers == (("embedding",) if tied else ("embedding", "head"))
    assert query.v is not None
    for layer in query.layers:
        assert query.lambda_[layer] == pytest.approx((expected.lambda_[layer],) * 2, rel=1e-12)
        for k, task in enumerate(query.names):
            torch.testing.assert_close(query.v[layer][k], expected.v[task][layer], rtol=1e-10, atol=1e-14)
            torch.testing.assert_close(query.r[layer][k], expected.r[task][layer], rtol=1e-9, atol=1e-9)
            assert query.directions[k].v_norm[layer] == pytest.approx(float(expected.v[task][layer].norm()))


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt-neox"])
@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
def test_float32_scores_are_the_float64_reference_s_to_1e_5(name: str, curvature: str) -> None:
    _, expected = slow(MODELS[name]().eval(), curvature=curvature)
    query, table = fast(MODELS[name]().float(), curvature=curvature)
    assert table["influence_answers"].type == pa.float32()
    assert_close(influence(table, query), expected, 1e-5)


def test_a_window_s_overlap_predicts_every_token_once() -> None:
    model = tiny.llama()
    _, table = fast(model)
    for ids, n_tokens, loss in zip(
        tiny.corpus(), table["n_tokens"].to_pylist(), table["loss"].to_pylist(), strict=True
    ):
        assert n_tokens == len(ids)
        assert loss == pytest.approx(slow_loss(model, ids, [True] * len(ids)).item(), rel=1e-12)


def test_a_shorter_max_length_agrees_too() -> None:
    model = tiny.gpt2().eval()
    query = fit_query(model, tiny.tasks(), tiny.reference(), max_length=5)
    table = score_documents(model, tiny.corpus(), query, max_length=5)
    _, expected = slow(model, max_length=5)
    assert_close(influence(table, query), expected, 1e-9)


def test_a_one_token_document_scores_zero_and_loses_nothing() -> None:
    model = tiny.llama()
    _, table = fast(model)
    row = table.slice(2, 1).to_pylist()[0]
    assert row == {"influence_answers": 0.0, "influence_sequences": 0.0, "n_tokens": 1, "loss": 0.0}


def test_half_precision_models_are_scored_in_float32() -> None:
    model = tiny.llama()
    _, expected = slow(model)
    query, table = fast(model.bfloat16())
    assert table["influence_answers"].type == pa.float32()
    assert np.corrcoef(influence(table, query)[:, 0], expected[:, 0])[0, 1] > 0.99
