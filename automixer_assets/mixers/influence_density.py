"""The paper's mixer: weights from influence density, by its equation (section 5) or by its Appendix B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from automixer_assets.mixers import GroupWeights
from automixer_assets.mixture.weights import GroupTable, NonpositiveDensity, appendix_b_weights, equation_weights


@dataclass(frozen=True)
class InfluenceDensity:
    """`equation`: rho_g / sum rho. `appendix_b`: P_g / sum P. Appendix B's weights are reported either way."""

    rule: Literal["equation", "appendix_b"] = "equation"
    nonpositive: NonpositiveDensity = "error"

    def weigh(self, groups: Sequence[GroupTable]) -> GroupWeights:
        appendix_b = tuple(appendix_b_weights(groups))
        equation = self.rule == "equation"
        return GroupWeights(tuple(equation_weights(groups, self.nonpositive)) if equation else appendix_b, appendix_b)
