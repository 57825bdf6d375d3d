"""The second seam: a Mixer turns group tables into sampling weights, optionally with intervals.

A new weight rule is a class with one method; `mixture.manifest` knows no rule by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from automixer_assets.mixture.weights import GroupTable, size_power
from automixer_assets.settings import Mixture


@dataclass(frozen=True)
class GroupWeights:
    """Weights in the order of the groups; each of `weights` and `appendix_b` sums to 1."""

    weights: tuple[float, ...]
    appendix_b: tuple[float, ...]
    intervals: tuple[tuple[float, float] | None, ...] | None = None
    """A mixer's own; without them `mixture.build` resamples documents."""


class Mixer(Protocol):
    """Group tables in, weights out; raises AutomixerError where the rule gives none."""

    def weigh(self, groups: Sequence[GroupTable]) -> GroupWeights: ...


def mixer_of(mixture: Mixture) -> Mixer:
    """The mixer that a mixture's settings ask for."""
    from automixer_assets.mixers.group_size import GroupSize
    from automixer_assets.mixers.influence_density import InfluenceDensity

    power = size_power(mixture.weight_rule)
    if power is not None:
        return GroupSize(power)
    rule = "equation" if mixture.weight_rule == "equation" else "appendix_b"
    return InfluenceDensity(rule=rule, nonpositive=mixture.nonpositive_density)
