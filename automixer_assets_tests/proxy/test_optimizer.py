"""Claims about one step: decay, accumulation, clipping, and options that change speed or memory alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.optimizer import accumulate_gradients, clip_gradients, make_optimizer
from automixer_assets.proxy.world import alone
from automixer_assets.settings import Architecture, Training
from automixer_assets_tests.proxy.test_train import digests, run

IDS = np.random.default_rng(0).integers(0, 64, (5, 8))


@pytest.mark.parametrize("tied", [False, True])
def test_only_linear_layers_are_decayed(tied: bool, architecture: Architecture, training: Training) -> None:
    model = build_model(architecture.model_copy(update={"tie_word_embeddings": tied}), 64, 8, seed=0)
    decayed, others = make_optimizer(model, training).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[p] for p in others["params"]} == {n for n in names.values() if "norm" in n or "embed" in n}
    assert decayed["weight_decay"] == training.weight_decay
    assert others["weight_decay"] == 0
    assert len(decayed["params"]) + len(others["params"]) == len(names)


@pytest.mark.parametrize("micro_batch_size", [None, 1, 2, 5, 9])
def test_micro_batches_add_up_to_the_mean_over_the_batch(
    micro_batch_size: int | None, architecture: Architecture, training: Training
) -> None:
    """Also where the last is smaller; the reference is the mean of single sequences' gradients, summed in float64."""
    chosen = training.model_copy(update={"micro_batch_size": micro_batch_size})
    model, reference = (build_model(architecture, 64, 8, seed=0) for _ in range(2))
    loss = accumulate_gradients(model, IDS, chosen, alone("cpu"))
    expected_loss, expected = 0.0, {name: torch.zeros_like(p).double() for name, p in reference.named_parameters()}
    for row in torch.from_numpy(IDS):
        logits = reference(input_ids=row[None], use_cache=False).logits[0]
        one = -torch.log_softmax(logits[:-1].double(), -1).gather(1, row[1:, None]).mean()
        gradients = torch.autograd.grad(one, list(reference.parameters()))
        expected_loss += one.item() / 5
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient.double() / 5
    assert loss.item() == pytest.approx(expected_loss, rel=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), expected[name], rtol=1e-4, atol=1e-7)


def test_clipping_is_over_the_norm_of_all_gradients(architecture: Architecture, training: Training) -> None:
    model = build_model(architecture, 64, 8, seed=0)
    accumulate_gradients(model, IDS, training, alone("cpu"))
    before = {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}
    norm = float(np.sqrt(sum((gradient**2).sum().item() for gradient in before.values())))
    assert clip_gradients(model, norm / 4, alone("cpu")).item() == pytest.approx(norm, rel=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), before[name] / 4, rtol=1e-4, atol=1e-9)


def test_recomputed_activations_and_resume_intervals_change_no_bit(
    tmp_path: Path, architecture: Architecture, training: Training
) -> None:
    options = {"activation_checkpointing": True, "resume_every": 5, "spike_steps": None}
    plain = run(tmp_path / "plain", architecture, training)
    frugal = run(tmp_path / "frugal", architecture, training.model_copy(update=options))
    assert digests(frugal.folder) == digests(plain.folder)


def test_a_compiled_model_trains_and_is_saved_like_any_other(
    tmp_path: Path, architecture: Architecture, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured and differentiated as by default; the kernels are not generated, which takes a C++ compiler a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain = run(tmp_path / "plain", architecture, training)
    compiled = run(tmp_path / "compiled", architecture, training.model_copy(update={"compile": True}))
    assert compiled.final_loss == pytest.approx(plain.final_loss, rel=1e-4)
    assert digests(compiled.folder).keys() == digests(plain.folder).keys()
    configs = [run.checkpoints[12] / "config.json" for run in (plain, compiled)]
    assert configs[0].read_text() == configs[1].read_text()
