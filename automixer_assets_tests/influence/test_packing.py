"""Windows in one row without padding: which models can, and that nothing else changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BloomConfig, GPTNeoConfig, MistralConfig, PreTrainedModel

from automixer_assets.influence import Backend, PassOptions, fit_query, score_documents
from automixer_assets.influence.batches import padding_share, plain_document, plan_by_length
from automixer_assets.influence.language_model import opened
from automixer_assets.influence.packed_attention import UnknownAttention, attend, packed_arguments
from automixer_assets.influence.score import compute_scores
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_agreement import MODELS, assert_close, influence


def mistral(sliding_window: int | None) -> PreTrainedModel:
    config = MistralConfig(
        vocab_size=41,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=sliding_window,
    )
    return AutoModelForCausalLM.from_config(config)


def gpt_neo() -> PreTrainedModel:
    """Every other layer attends locally, by attention of its own."""
    kinds = [[["global", "local"], 1]]
    return AutoModelForCausalLM.from_config(
        GPTNeoConfig(vocab_size=41, hidden_size=16, num_layers=2, num_heads=4, attention_types=kinds)
    )


def bloom() -> PreTrainedModel:
    """Positions enter the attention scores."""
    return AutoModelForCausalLM.from_config(BloomConfig(vocab_size=41, hidden_size=16, n_layer=2, n_head=4))


@pytest.mark.parametrize(
    ("build", "attention"),
    [
        *((build, "windows") for build in MODELS.values()),
        (lambda: mistral(None), "windows"),
        (lambda: mistral(4), "padded"),
        (gpt_neo, "padded"),
        (bloom, "padded"),
    ],
)
def test_models_of_full_attention_are_packed_and_others_padded(
    build: Callable[[], PreTrainedModel], attention: str
) -> None:
    model = build()
    own = model.config._attn_implementation
    with opened(model) as parts:
        assert parts.attention == attention
    assert model.config._attn_implementation == own
    with opened(model, Backend(packed=False)) as parts:
        assert not parts.packed


@pytest.mark.parametrize("layers", [("embedding", "head"), ("embedding", "last_block")])
@pytest.mark.parametrize("name", MODELS)
def test_packed_and_padded_batches_score_alike(name: str, layers: tuple[str, ...]) -> None:
    model = MODELS[name]().eval()
    query = fit_query(model, tiny.tasks(), tiny.reference(), layers=layers)
    scores = [
        compute_scores(
            model,
            tiny.corpus(),
            query,
            PassOptions(batch_tokens, backend=Backend(packed=packed)),
            on_progress=None,
            name=str,
        )
        for packed in (None, False)
        for batch_tokens in (None, 31)
    ]
    for other in scores[1:]:
        assert_close(other.influence, scores[0].influence, 1e-12)
        assert_close(other.loss, scores[0].loss, 1e-12)


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6), heads=st.sampled_from([(4, 4), (4, 2), (4, 1)]))
def test_packed_attention_is_causal_attention_within_each_window(lengths: list[int], heads: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    q, k, v = (
        torch.randn(1, count, sum(lengths), 3, generator=generator, dtype=torch.float64)
        for count in (heads[0], heads[1], heads[1])
    )
    positions = torch.tensor([[i for length in lengths for i in range(length)]])
    found, _ = attend(torch.nn.Identity(), q, k, v, None, 0.7, **packed_arguments(lengths, positions, varlen=False))
    window = torch.tensor([i for i, length in enumerate(lengths) for _ in range(length)])
    seen = (window[:, None] == window) & (positions[0][:, None] >= positions[0])  # [N, N]
    k, v = (tensor.repeat_interleave(heads[0] // heads[1], dim=1) for tensor in (k, v))
    weights = (0.7 * q @ k.mT).masked_fill(~seen, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, (weights @ v).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_attention_of_another_kind_is_refused() -> None:
    q = torch.randn(1, 2, 3, 4)
    arguments = packed_arguments([3], torch.arange(3)[None], varlen=False)
    with pytest.raises(UnknownAttention, match="softcap"):
        attend(torch.nn.Identity(), q, q, q, None, **arguments, softcap=30.0)
    with pytest.raises(UnknownAttention, match="a mask"):
        attend(torch.nn.Identity(), q, q, q, torch.zeros(1, 1, 3, 3), **arguments)


def test_a_broken_window_leaves_its_neighbours_in_the_row_alone() -> None:
    model = tiny.llama()
    query = fit_query(model, tiny.tasks(), tiny.reference())
    documents = [[1, 2, 3], [4, 40, 5, 6], [7, 8], [9, 10, 11]]
    options = PassOptions(on_nonfinite="quarantine", backend=Backend(packed=True))
    expected = compute_scores(model, documents, query, options, on_progress=None, name=str)
    with torch.no_grad():
        tiny.matrices(model)["embedding"][40] = float("nan")
    found = compute_scores(model, documents, query, options, on_progress=None, name=str)
    assert found.quarantined.tolist() == [False, True, False, False]
    sound = ~found.quarantined
    np.testing.assert_allclose(found.influence[sound], expected.influence[sound], rtol=1e-12)


def test_the_share_of_padding_is_what_padded_rows_waste() -> None:
    documents = [plain_document([0] * length, "mean", "document") for length in (9, 7, 5, 5)]
    plan = plan_by_length(documents, 100, 16, packed=False)
    assert [[window.n_inputs for window in batch] for batch in plan] == [[8, 6], [4, 4]]
    assert padding_share(plan) == pytest.approx(2 / 24)
    assert padding_share([]) == 0.0


def _varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What torch documents of `varlen_attn`, without a GPU: [N, H, c] tensors, (-1, 0) is causal."""
    assert window_size == (-1, 0) and torch.equal(cu_seq_q, cu_seq_k) and query.dtype == torch.bfloat16
    ends = cu_seq_q.tolist()
    assert cu_seq_q.dtype == torch.int32 and max_q == max_k == max(b - a for a, b in pairwise(ends))
    outputs = []
    for start, stop in pairwise(ends):
        q, k, v = (tensor[start:stop].transpose(0, 1)[None] for tensor in (query, key, value))
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=enable_gqa
            )[0].transpose(0, 1)
        )
    return torch.cat(outputs)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_gpu_s_kernel_gets_the_same_windows(kv_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="torch before 2.10")
    sent = {"scale": 0.3, "window_size": (-1, 0), "enable_gqa": True}
    inspect.signature(varlen.varlen_attn).bind(0, 0, 0, 0, 0, 1, 1, **sent)  # torch still takes what is sent
    monkeypatch.setattr(varlen, "varlen_attn", _varlen_attn)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, n, 12, 8, generator=generator).bfloat16() for n in (4, kv_heads, kv_heads))
    lengths = [5, 4, 3]
    positions = torch.tensor([[i for length in lengths for i in range(length)]])
    found, expected = (
        attend(torch.nn.Identity(), q, k, v, None, 0.3, **packed_arguments(lengths, positions, varlen=varlen_too))[0]
        for varlen_too in (True, False)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "attention", "agreement"), [(None, "windows", 1e-4), ("bfloat16", "varlen", 0.05)])
def test_a_gpu_scores_as_a_cpu_does(dtype: str | None, attention: str, agreement: float) -> None:
    model = tiny.llama(kv_heads=2).float()
    query = fit_query(model, tiny.tasks(), tiny.reference())
    expected = influence(score_documents(model, tiny.corpus(), query), query)
    torch.nn.Module.cuda(model)
    with opened(model, Backend(dtype=dtype)) as parts:
        assert parts.attention == attention
    on_gpu = fit_query(model, tiny.tasks(), tiny.reference(), dtype=dtype)
    assert_close(influence(score_documents(model, tiny.corpus(), on_gpu, dtype=dtype), on_gpu), expected, agreement)
