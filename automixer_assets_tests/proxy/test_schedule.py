"""Claims about learning rates and kept steps, against references written by others or another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import get_cosine_with_min_lr_schedule_with_warmup, get_wsd_schedule

from automixer_assets.proxy.schedule import learning_rate
from automixer_assets.settings import Training
from automixer_assets.settings.simulation import checkpoint_steps


def training(**options: Any) -> Training:
    given = {"steps": 100, "sequence_length": 8, "batch_size": 1, "learning_rate": 0.02, "warmup_steps": 10}
    return Training.model_validate(given | options)


def rates(chosen: Training) -> list[float]:
    return [learning_rate(chosen, step) for step in range(chosen.steps)]


def reference(scheduler: Any, **options: Any) -> list[float]:
    """The rates of a Hugging Face schedule, whose warm-up begins at zero."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.02)
    schedule = scheduler(optimizer, **options)
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("schedule", ["cosine", "constant", "warmup_stable_decay"])
def test_every_schedule_warms_up_linearly_to_its_full_rate(schedule: str) -> None:
    found = rates(training(schedule=schedule))
    np.testing.assert_allclose(found[:10], np.linspace(0.002, 0.02, 10), rtol=1e-12)
    assert max(found) == 0.02


def test_cosine_is_hugging_faces_cosine_after_the_warm_up() -> None:
    expected = reference(
        get_cosine_with_min_lr_schedule_with_warmup, num_warmup_steps=10, num_training_steps=100, min_lr_rate=0.1
    )
    np.testing.assert_allclose(rates(training())[10:], expected[10:], rtol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_warm_up_stable_decay_is_hugging_faces_after_the_warm_up(share: float) -> None:
    chosen = training(schedule="warmup_stable_decay", decay_share=share)
    expected = reference(
        get_wsd_schedule,
        num_warmup_steps=10,
        num_decay_steps=chosen.decay_steps,
        num_training_steps=100,
        decay_type="linear",
        min_lr_ratio=0.1,
    )
    np.testing.assert_allclose(rates(chosen)[10:], expected[10:], rtol=1e-12)
    corners = np.interp(np.arange(10, 100), [10, 100 - 100 * share, 100], [0.02, 0.02, 0.002])
    np.testing.assert_allclose(rates(chosen)[10:], corners, rtol=1e-12)


def test_warm_up_stable_decay_decays_over_a_tenth_of_the_run_unless_told() -> None:
    unsaid = rates(training(schedule="warmup_stable_decay"))
    assert unsaid == rates(training(schedule="warmup_stable_decay", decay_share=0.1))
    assert unsaid[90] == 0.02 > unsaid[91]


def test_constant_stays() -> None:
    assert set(rates(training(schedule="constant"))[9:]) == {0.02}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"decay_share": 0.2}, "decay_share needs schedule: warmup_stable_decay, not cosine"),
        ({"schedule": "warmup_stable_decay", "decay_share": 0.95}, "do not fit into steps=100; shorten the warm-up"),
        ({"warmup_steps": 100}, "warmup_steps=100 must be below steps=100"),
    ],
)
def test_phases_that_do_not_fit_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        training(**options)


def test_the_documented_steps_are_kept() -> None:
    assert checkpoint_steps(1200, 10, "even") == [120 * i for i in range(1, 11)]
    assert checkpoint_steps(1200, 10, "early_dense") == [12, 20, 33, 56, 93, 155, 259, 431, 719, 1200]
    assert checkpoint_steps(100_000, 20, "early_dense")[:4] == [1000, 1274, 1624, 2069]


@pytest.mark.parametrize("steps", [1, 2, 7, 150, 1010])
@pytest.mark.parametrize("spacing", ["even", "early_dense"])
def test_as_many_distinct_steps_as_asked_the_last_at_the_end(steps: int, spacing: Any) -> None:
    for count in {1, 2, steps // 2, steps - 1, steps} & set(range(1, steps + 1)):
        kept = checkpoint_steps(steps, count, spacing)
        assert len(set(kept)) == count
        assert kept == sorted(kept)
        assert kept[0] > 0
        assert kept[-1] == steps


def test_early_dense_grows_by_a_constant_factor_from_a_hundredth() -> None:
    kept = np.array(checkpoint_steps(1_000_000, 9, "early_dense"))
    np.testing.assert_allclose(kept, np.geomspace(10_000, 1_000_000, 9), atol=0.5)
