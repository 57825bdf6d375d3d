"""The mixture's formulas once more, in plain NumPy and exact fractions, so that a mistake in the SQL shows.

Nothing here calls what made the mixture. Sections are the paper's; utility is minus influence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from automixer_assets.mixture.normalisation import Normalisation


def group_utility(influences: np.ndarray, scaling: Normalisation) -> np.ndarray:
    """Minus the mean influence over a group's tasks (section 4), scaled. [n, tasks] -> [n]."""
    if scaling.tasks:
        ranked = [group_utility(influences[:, [place]], each) for place, each in enumerate(scaling.tasks.values())]
        return np.mean(ranked, axis=0)
    utility = -influences.astype(np.float64).mean(axis=1)
    if scaling.knots:
        knots, ranks = np.array(scaling.knots).T
        return np.interp(utility, knots, ranks)
    return (utility - scaling.center) / scaling.scale


def scaling_constants(method: str, influences: np.ndarray, columns: Sequence[str]) -> Normalisation:
    """Constants of a normalisation from the reference sample's scores, [documents, tasks], a column per task."""
    if method == "task_rank":
        each = {column: influences[:, [place]] for place, column in enumerate(columns)}
        return Normalisation(
            tasks={column: scaling_constants("rank", scores, [column]) for column, scores in each.items()}
        )
    utility = -influences.astype(np.float64).mean(axis=1)
    if method == "z":
        return Normalisation(float(utility.mean()), float(utility.std()))
    if method == "median_mad":
        center = float(np.median(utility))
        return Normalisation(center, float(np.median(np.abs(utility - center))))
    knots, counts = np.unique(utility, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
    return Normalisation(knots=tuple(zip(knots.tolist(), ranks.tolist(), strict=True)))


def blending_factors(rule: str, steps: Sequence[int], n_tasks: Sequence[int]) -> list[float]:
    """Alpha (section 4): t_j / sum t, or equal, or by the number of tasks."""
    raw = {"steps": list(steps), "uniform": [1] * len(steps), "tasks": list(n_tasks)}[rule]
    return [value / sum(raw) for value in raw]


@dataclass(frozen=True)
class GroupSums:
    """Sums over the documents of one group.

    Attributes:
        utility_tokens: sum of joint utility x tokens.
        total_tokens: sum of total influence x tokens (Appendix B: utilities of the groups that keep the document).
    """

    n_documents: int
    n_tokens: int
    utility_tokens: float
    total_tokens: float


@dataclass(frozen=True)
class Densities:
    """Per group, in the order of the sums."""

    density: tuple[float, ...]
    density_scaled: tuple[float, ...]
    token_product: tuple[float, ...]


def densities(sums: Sequence[GroupSums], lowest: float, highest: float) -> Densities:
    """rho_g (section 5) and Appendix B's scaled density and product; `lowest` and `highest` total influence."""
    spread = highest - lowest
    scaled = [(each.total_tokens / each.n_tokens - lowest) / spread if spread else 1.0 for each in sums]
    return Densities(
        tuple(each.utility_tokens / each.n_tokens for each in sums),
        tuple(scaled),
        tuple(value * each.n_tokens for value, each in zip(scaled, sums, strict=True)),
    )


def weights_by_equation(density: Sequence[float]) -> list[float]:
    """rho / sum rho where all are positive, else softmax(rho / standard deviation) (section 5; DESIGN: weights)."""
    if min(density) > 0:
        return [value / math.fsum(density) for value in density]
    spread = float(np.std(density))
    powers = [math.exp((value - max(density)) / spread) if spread else 1.0 for value in density]
    return [power / math.fsum(powers) for power in powers]


def weights_by_appendix_b(products: Sequence[float]) -> list[float]:
    """P / sum P."""
    return [product / math.fsum(products) for product in products]


def weights_by_size(n_tokens: Sequence[int], power: float) -> list[float]:
    """T^power / sum T^power."""
    powers = [tokens**power for tokens in n_tokens]
    return [value / math.fsum(powers) for value in powers]


@dataclass(frozen=True)
class Run:
    """A run played to its end: tokens per group, the weights from each token on at which they change, who stopped."""

    tokens: dict[str, int]
    phases: list[tuple[int, dict[str, float]]]
    shortfall: int
    stopped: frozenset[str]


def play(weights: Mapping[str, float], caps: Mapping[str, int], budget: int) -> Run:
    """Sample groups by weight until the budget is spent; one at its cap stops and the others rise in proportion."""
    left = {group: Fraction(weight) for group, weight in weights.items() if weight > 0}
    used = dict.fromkeys(weights, Fraction(0))
    phases: dict[int, dict[str, float]] = {}
    position = Fraction(0)
    while left:
        total = sum(left.values())
        shares = {group: left.get(group, Fraction(0)) / total for group in weights}
        phases[math.ceil(position)] = {group: float(share) for group, share in shares.items()}
        until = {group: (caps[group] - used[group]) / shares[group] for group in left if group in caps}
        step = min([budget - position, *until.values()])
        used = {group: used[group] + step * shares[group] for group in weights}
        position += step
        if position >= budget:
            break
        left = {group: weight for group, weight in left.items() if group not in until or until[group] > step}
    spent = math.floor(position)
    return Run(_whole_tokens(used, spent), sorted(phases.items()), budget - spent, frozenset(weights) - left.keys())


def _whole_tokens(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Largest remainder, ties to the earlier group."""
    tokens = {group: math.floor(share) for group, share in shares.items()}
    lacking = sorted(shares, key=lambda group: -(shares[group] - tokens[group]))
    for group in lacking[: total - sum(tokens.values())]:
        tokens[group] += 1
    return tokens
