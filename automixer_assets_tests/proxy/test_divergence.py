"""Claims about when a run counts as diverged, and which checkpoint is then called good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.divergence import loss_bound, refuse_divergence, stays_up
from automixer_assets.settings import Training

QUIET = 3 + 0.05 * np.random.default_rng(0).standard_normal(1000)


def training(**options: Any) -> Training:
    return Training.model_validate(
        {"steps": 2000, "sequence_length": 8, "batch_size": 1, "learning_rate": 0.1, "spike_steps": 20} | options
    )


def history(losses: np.ndarray, norm: float = 1.0) -> list[dict[str, Any]]:
    return [{"step": i + 1, "loss": float(loss), "gradient_norm": norm} for i, loss in enumerate(losses)]


def run_with_checkpoints(folder: Path, *steps: int) -> Path:
    for step in steps:
        (folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    return folder


def test_the_bound_is_the_median_and_so_many_robust_deviations() -> None:
    losses = np.random.default_rng(1).standard_normal(999) + 5
    spread = 1.482602218505602 * np.median(np.abs(losses - np.median(losses)))  # 1 / normal quantile of 3/4
    assert loss_bound(losses.tolist(), 10) == pytest.approx(np.median(losses) + 10 * spread, rel=1e-5)
    assert loss_bound([2.0] * 50, 10) == 2.5, "a steady loss may still rise by half a nat"


def test_a_jump_that_stays_stops_the_run_and_names_the_checkpoint_before_it(tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path, 400, 498, 499, 510)
    losses = np.concatenate([QUIET[:500], QUIET[500:520] + 4])
    refuse_divergence(history(losses[:519]), training(), run)
    message = r"jumped at step 501 and has not come down for 20 steps: .* is .*step-000499; .*spike_steps: null"
    with pytest.raises(AutomixerError, match=message):
        refuse_divergence(history(losses), training(), run)
    refuse_divergence(history(losses), training(spike_steps=None), run)


@pytest.mark.parametrize("length", [1, 5, 19])
def test_a_spike_that_comes_down_is_let_pass(length: int) -> None:
    losses = QUIET.copy()
    losses[500 : 500 + length] += 50
    assert not any(stays_up(losses[:end].tolist(), training()) for end in range(1, 1001))


def test_healthy_losses_never_stop_a_run() -> None:
    generator = np.random.default_rng(2)
    falling = 2 + 8 / np.sqrt(np.arange(1, 3001)) + 0.3 * generator.standard_normal(3000)
    heavy = 3 + 0.2 * generator.standard_t(2, 3000)
    for losses in (falling, heavy):
        assert not any(stays_up(losses[:end].tolist(), training()) for end in range(1, 3001))


def test_a_checkpoint_whose_weights_gave_no_number_is_not_called_good(tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path, 5, 7)
    losses = np.array([3.0] * 7 + [np.nan])  # the weights after step 7 gave the loss of step 8
    with pytest.raises(AutomixerError, match=r"loss nan .* at step 8 .* is .*step-000005; lower"):
        refuse_divergence(history(losses), training(), run)
    with pytest.raises(AutomixerError, match=r"gradient norm inf at step 3 .*: there is no earlier checkpoint"):
        refuse_divergence(history(losses[:3], np.inf), training(), run)
