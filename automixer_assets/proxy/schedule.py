"""Learning rate by step: linear warm-up, then cosine, constant, or constant with a linear fall at the end."""

from __future__ import annotations

import math

from automixer_assets.settings import Training


def learning_rate(training: Training, step: int) -> float:
    """Learning rate of the step with that number (from 0).

    The warm-up reaches the full rate with its last step. Cosine and decay would reach the minimum at step
    `training.steps`, one after the last, so that no step is wasted on it.
    """
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return training.learning_rate
    if training.schedule == "warmup_stable_decay":
        return training.learning_rate * _stable_then_linear(training, step)
    progress = (step - training.warmup_steps) / (training.steps - training.warmup_steps)
    minimum = training.minimum_learning_rate_ratio
    return training.learning_rate * (minimum + (1 - minimum) * 0.5 * (1 + math.cos(math.pi * progress)))


def _stable_then_linear(training: Training, step: int) -> float:
    """1 until the decay begins, then down to the minimum ratio on a straight line."""
    progress = max(0.0, (step - (training.steps - training.decay_steps)) / training.decay_steps)
    return 1 - (1 - training.minimum_learning_rate_ratio) * progress
