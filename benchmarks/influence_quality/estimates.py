"""Rank correlations with bootstrap intervals that are paired between methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, t
from sklearn.metrics import roc_auc_score

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure over the studies of several seeds, with what each resampling and each seed gave."""

    value: float
    resampled: np.ndarray  # [R]
    per_seed: np.ndarray  # [S]

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: the spread of the resamplings about the value; over halves, for these worlds.

        The resamplings are centred on the value first, for the rank correlation of a resampling, whose repeated halves
        tie, lies below that of its source.
        """
        low, high = np.quantile(self.resampled - self.resampled.mean(), [0.025, 0.975])
        return self.value + float(low), self.value + float(high)

    @property
    def interval_over_seeds(self) -> tuple[float, float]:
        """95 % by Student's t over the seeds: what to expect of other worlds. NaN for a single seed."""
        if len(self.per_seed) < 2:
            return float("nan"), float("nan")
        error = np.std(self.per_seed, ddof=1) / np.sqrt(len(self.per_seed))
        reach = float(t.ppf(0.975, len(self.per_seed) - 1) * error)
        return self.value - reach, self.value + reach

    def minus(self, other: Estimate) -> Estimate:
        """The difference, resampled together."""
        return Estimate(self.value - other.value, self.resampled - other.resampled, self.per_seed - other.per_seed)


def rank_correlations(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Spearman along the last axis."""
    ranks = [rankdata(values, axis=-1) for values in (predicted, measured)]
    one, other = (values - values.mean(axis=-1, keepdims=True) for values in ranks)
    scale = np.sqrt((one**2).sum(axis=-1) * (other**2).sum(axis=-1))
    return (one * other).sum(axis=-1) / np.maximum(scale, 1e-12)  # constant predictions correlate with nothing


def estimate(studies: Sequence[tuple[np.ndarray, np.ndarray]], draw: int = 0) -> Estimate:
    """Mean Spearman over tasks and studies; each study resamples its own columns.

    Args:
        studies: per seed, predicted and measured values [m, M] of m tasks over M halves (or documents).
        draw: seed of the resampling; the same one pairs the estimates of two methods.
    """
    per_seed = np.array([rank_correlations(predicted, measured).mean() for predicted, measured in studies])
    resampled = []
    for number, (predicted, measured) in enumerate(studies):
        columns = predicted.shape[1]
        chosen = np.random.default_rng([draw, number]).integers(0, columns, (RESAMPLES, columns))  # [R, M]
        resampled.append(rank_correlations(predicted[:, chosen], measured[:, chosen]).mean(axis=0))  # [R]
    return Estimate(float(per_seed.mean()), np.mean(resampled, axis=0), per_seed)


def clean_over_noise(utility: np.ndarray, kinds: Sequence[str], clean: Sequence[str], noise: str) -> float:
    """AUC of the mean standardised utility [n]: a clean document above one of that kind of noise."""
    labels = np.array(kinds)
    sides = np.isin(labels, clean) | (labels == noise)
    return float(roc_auc_score(np.isin(labels, clean)[sides], utility[sides]))


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
