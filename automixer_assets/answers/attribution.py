"""Which part of a change of weights is due to what: Shapley values over the ingredients of a mixture.

Between two mixtures several ingredients change at once: documents, thresholds, alpha, scores, the weight rule. Taking
them over one by one gives another split for every order; the Shapley value is the mean over all orders, so no order has
to be argued for, and the parts add up to the whole change. It needs the weights of every combination of the two sides'
ingredients, 2^k of them, and they cost nothing: weights are made of sums over documents that are common to both sides
or in one alone, and alpha enters linearly, so one pass over the scores gives them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from automixer_assets.answers.formulas import weights_by_appendix_b, weights_by_equation, weights_by_size
from automixer_assets.mixture.weights import size_power

Side = str
"""`A`, before, or `B`, after."""
SIDES: tuple[Side, Side] = ("A", "B")
Weights = dict[str, float]


@dataclass(frozen=True)
class PartSums:
    """Sums over some documents, by the groups that keep them, [groups] unless said otherwise.

    Attributes:
        utility_tokens: [groups, groups] sum of utility for the second group x tokens over the first group's documents.
        total_tokens: sum of total influence x tokens (Appendix B).
        lowest, highest: total influence of any kept document.
    """

    n_tokens: np.ndarray
    utility_tokens: np.ndarray
    total_tokens: np.ndarray
    lowest: float
    highest: float

    def __add__(self, other: PartSums) -> PartSums:
        return PartSums(
            self.n_tokens + other.n_tokens,
            self.utility_tokens + other.utility_tokens,
            self.total_tokens + other.total_tokens,
            min(self.lowest, other.lowest),
            max(self.highest, other.highest),
        )


def no_sums(n_groups: int) -> PartSums:
    return PartSums(
        np.zeros(n_groups), np.zeros((n_groups, n_groups)), np.zeros(n_groups), lowest=math.inf, highest=-math.inf
    )


@dataclass(frozen=True)
class Ingredients:
    """Both mixtures, taken apart.

    Attributes:
        groups: of both; a group has a place in every array, with zeros where a side does not have it.
        common: side -> sums over the documents that are candidates on both sides, by its scores and thresholds.
        only: (side, thresholds) -> sums over the documents of one side alone, which have that side's scores alone.
        alphas: side -> [groups]; 0 where the side does not have the group.
        rules: side -> weight rule.
        scores_differ: whether a common document's utility differs: a threshold then only means something with its
            own scores, and the two are taken over together.
        groups_differ: whether the sides have different groups: scores, thresholds and alphas then go together.
    """

    groups: tuple[str, ...]
    common: Mapping[Side, PartSums]
    only: Mapping[tuple[Side, Side], PartSums]
    alphas: Mapping[Side, np.ndarray]
    rules: Mapping[Side, str]
    scores_differ: bool
    groups_differ: bool

    @property
    def factors(self) -> tuple[str, ...]:
        """What can be taken over on its own."""
        if self.groups_differ:
            return ("documents", "checkpoints", "weight rule")
        if self.scores_differ:
            return ("documents", "scores", "alpha", "weight rule")
        return ("documents", "threshold", "alpha", "weight rule")

    def weights(self, taken: frozenset[str]) -> Weights:
        """Weights of A with these factors taken over from B."""
        side = {factor: SIDES[factor in taken] for factor in self.factors}
        documents, rule = side["documents"], self.rules[side["weight rule"]]
        if self.groups_differ:
            scores = alpha = side["checkpoints"]
            own_alpha = documents
        else:
            scores = side.get("scores", side.get("threshold", "A"))
            alpha = own_alpha = side["alpha"]
        mixed = self.scores_differ or self.groups_differ
        common, only = self.common[scores], self.only[documents, documents if mixed else scores]
        joint = common.utility_tokens @ self.alphas[alpha] + only.utility_tokens @ self.alphas[own_alpha]
        return self._weigh(common + only, joint, rule, self.alphas[alpha] if self.groups_differ else None)

    def _weigh(self, sums: PartSums, joint: np.ndarray, rule: str, present: np.ndarray | None) -> Weights:
        """A group without documents, or that the side does not have, weighs nothing."""
        has_tokens = sums.n_tokens > 0
        live = np.flatnonzero(has_tokens if present is None else has_tokens & (present > 0)).tolist()
        power = size_power(rule)
        if power is not None:
            found = weights_by_size([int(sums.n_tokens[i]) for i in live], power)
        elif rule == "equation":
            found = weights_by_equation([float(joint[i] / sums.n_tokens[i]) for i in live])
        else:
            spread = sums.highest - sums.lowest
            scaled = [
                float(sums.total_tokens[i] - sums.lowest * sums.n_tokens[i]) / spread if spread else sums.n_tokens[i]
                for i in live
            ]
            found = weights_by_appendix_b(scaled)
        weights = dict.fromkeys(self.groups, 0.0)
        return weights | {self.groups[i]: weight for i, weight in zip(live, found, strict=True)}

    def attribution(self) -> dict[str, Weights]:
        """group -> factor -> its part of the change of the group's weight; a group's parts add up to the change."""
        return shapley(self.factors, self.weights)


def shapley(factors: Sequence[str], value: Callable[[frozenset[str]], Weights]) -> dict[str, Weights]:
    """group -> factor -> mean over all orders of what the factor adds when its turn comes (Shapley 1953)."""
    subsets = [frozenset(chosen) for size in range(len(factors) + 1) for chosen in combinations(factors, size)]
    values = {subset: value(subset) for subset in subsets}
    n = len(factors)
    parts: dict[str, Weights] = {}
    for group in values[frozenset()]:
        parts[group] = {
            factor: math.fsum(
                (values[subset | {factor}][group] - values[subset][group]) / (n * math.comb(n - 1, len(subset)))
                for subset in subsets
                if factor not in subset
            )
            for factor in factors
        }
    return parts
