"""How passes run: progress, batch sizes by device, half precision, a compiled body."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from automixer_assets.errors import AutomixerError
from automixer_assets.influence import fit_query, memory, score_documents, tokens_of_fit
from automixer_assets.influence.reference import slow_query, slow_scores
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_agreement import assert_close, influence

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(("curvature", "passes"), [("identity", 0), ("kfac", 1), ("datainf", 2)])
def test_fitting_reports_progress_over_all_its_passes(curvature: str, passes: int) -> None:
    seen: list[tuple[int, int]] = []
    fit_query(
        tiny.llama(),
        tiny.tasks(),
        tiny.reference(),
        curvature=curvature,
        batch_tokens=20,
        on_progress=lambda *now: seen.append(now),
    )
    counted = sum(sum(mask[1:]) for items in tiny.tasks().values() for _, mask in items)
    total = counted + passes * sum(len(ids) - 1 for ids in tiny.reference())
    assert seen == sorted(seen)
    assert {of for _, of in seen} == {total}
    assert seen[-1][0] == total == tokens_of_fit(tiny.tasks(), tiny.reference(), curvature)


def test_batches_and_buffers_are_fixed_on_a_cpu_and_grow_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.batch_tokens_on(CPU, None) == 4096
    assert memory.buffer_elements(CPU, 100) == 100

    def gpu_of(gibibytes: int) -> None:
        properties = SimpleNamespace(total_memory=gibibytes * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    gpu_of(80)
    assert memory.batch_tokens_on(CUDA, None) == 20480
    assert memory.batch_tokens_on(CUDA, 77) == 77
    assert memory.buffer_elements(CUDA, 100) * 4 * 64 == 80 * 2**30
    gpu_of(1)
    assert memory.batch_tokens_on(CUDA, None) == 4096


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("curvature", ["datainf", "kfac"])
def test_a_body_in_half_precision_gives_nearly_the_same_scores(dtype: str, curvature: str) -> None:
    model = tiny.llama().float()
    query = fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature)
    expected = influence(score_documents(model, tiny.corpus(), query), query)
    found = influence(score_documents(model, tiny.corpus(), query, dtype=dtype), query)
    assert not np.array_equal(found, expected)
    assert_close(found, expected, 0.03)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
def test_bfloat16_ranks_documents_as_the_float64_reference_does(curvature: str) -> None:
    model, corpus = tiny.llama(), tiny.documents([6 + k % 20 for k in range(200)], seed=5)
    reference = slow_query(model, tiny.tasks(), tiny.reference(), curvature=curvature)
    expected = slow_scores(model, corpus, reference).numpy()  # [documents, directions]
    model = model.float()
    query = fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature)
    half = influence(score_documents(model, corpus, query, dtype="bfloat16"), query)
    for k in range(len(query.names)):
        agreement: Any = spearmanr(half[:, k], expected[:, k])
        assert agreement.statistic > 0.999
        upper = [set(np.argsort(scores[:, k])[:100].tolist()) for scores in (half, expected)]
        assert len(upper[0] & upper[1]) >= 97, "the half that a mixture keeps"


def test_small_gradients_do_not_vanish_in_float16() -> None:
    """A long text's mean loss has weights far below what float16 holds, were they carried through the body."""
    model = tiny.llama(context=1600).half()
    ids = tiny.documents([1500], seed=8)
    query = fit_query(model, {"task": [tiny.whole(ids[0])]}, [], layers=("embedding",), curvature="identity")
    exact = fit_query(model.float(), {"task": [tiny.whole(ids[0])]}, [], layers=("embedding",), curvature="identity")
    assert_close(query.r["embedding"].numpy(), exact.r["embedding"].numpy(), 0.02)


@pytest.mark.parametrize("half", ["own", "autocast"])
def test_float16_overflow_is_said_in_one_sentence(half: str) -> None:
    model = tiny.llama().float()
    query = fit_query(model, tiny.tasks(), tiny.reference())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1e3 if ".mlp." in name else 1.0)
    options: dict[str, Any] = {"dtype": "float16"} if half == "autocast" else {}
    model = model.half() if half == "own" else model
    with pytest.raises(AutomixerError, match="float16 ends at 65504, so run the model in bfloat16 or float32"):
        score_documents(model, tiny.corpus(), query, **options)
    with pytest.raises(AutomixerError, match="task 'answers' is not finite: float16 ends at 65504"):
        fit_query(model, tiny.tasks(), tiny.reference(), **options)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(AutomixerError, match=r"dtype must be one of bfloat16, float16, or None .* not 'int8'"):
        fit_query(tiny.llama(), tiny.tasks(), tiny.reference(), dtype="int8")


def test_a_compiled_body_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for real; only code generation, which takes a minute, is left out."""
    model = tiny.llama()
    query = fit_query(model, tiny.tasks(), tiny.reference())
    expected = score_documents(model, tiny.corpus(), query)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    found = score_documents(model, tiny.corpus(), query, compile=True)
    assert_close(influence(found, query), influence(expected, query), 1e-12)


def test_a_compiled_body_cannot_be_recorded() -> None:
    with pytest.raises(AutomixerError, match="cannot be recorded in a compiled body: pass compile=False"):
        fit_query(tiny.llama(), tiny.tasks(), tiny.reference(), layers=("last_block",), compile=True)


def test_recording_layers_leaves_no_hook_behind() -> None:
    model = tiny.gpt2()
    fit_query(model, tiny.tasks(), tiny.reference(), layers=("last_block",))
    assert not any(module._forward_hooks for module in model.modules())
