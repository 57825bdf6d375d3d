"""A mixer without influence: every group the same share of the tokens, or by a power of its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automixer_assets.mixers import GroupWeights
from automixer_assets.mixture.weights import GroupTable, appendix_b_weights, size_weights


@dataclass(frozen=True)
class GroupSize:
    """w_g = T_g^power / sum T^power: 0 is equal shares, 1 as the tokens lie."""

    power: float

    def weigh(self, groups: Sequence[GroupTable]) -> GroupWeights:
        return GroupWeights(tuple(size_weights(groups, self.power)), tuple(appendix_b_weights(groups)))
