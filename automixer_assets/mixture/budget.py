"""Token budget: how many tokens each group gives, in closed form (paper, section 5; DESIGN: budget and caps).

Under `stop_and_raise_others` a group that reaches its cap is no longer sampled and the other weights rise in
proportion. Played to the end that is n_g = min(C_g, theta w_g) with the sum min(T, sum C_g). Arithmetic is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from automixer_assets.errors import AutomixerError

ExhaustionPolicy = Literal["repeat", "stop_and_raise_others"]


@dataclass(frozen=True)
class Phase:
    """From that token of the run on, groups are sampled at these weights."""

    from_token: int
    weights: dict[str, float]


@dataclass(frozen=True)
class Allocation:
    """Tokens per group summing to token_budget - shortfall, and the schedule that leads there."""

    tokens: dict[str, int]
    phases: tuple[Phase, ...]
    shortfall: int


def allocate(
    *,
    weights: Mapping[str, float],
    group_tokens: Mapping[str, int],
    token_budget: int,
    exhaustion_policy: ExhaustionPolicy,
    max_epochs: float | None,
) -> Allocation:
    """Share a token budget among groups.

    Args:
        weights: group -> sampling weight.
        group_tokens: group -> T_g.
        token_budget: T.
        exhaustion_policy: `repeat` reads a group as often as its weight asks; `stop_and_raise_others` stops at the cap.
        max_epochs: the cap, C_g = max_epochs * T_g; given if and only if the policy stops.
    """
    exact = {group: Fraction(weight) for group, weight in weights.items()}
    if exhaustion_policy == "repeat":
        total = sum(exact.values())
        shares = {group: token_budget * weight / total for group, weight in exact.items()}
        return Allocation(_whole(shares, token_budget), (Phase(0, _normalised(exact)),), 0)
    if max_epochs is None:
        raise AutomixerError("exhaustion_policy `stop_and_raise_others` needs a cap; set the mixture's `max_epochs`")
    caps = {group: math.floor(Fraction(str(max_epochs)) * group_tokens[group]) for group in weights}
    return _capped(exact, caps, token_budget)


def _capped(weights: dict[str, Fraction], caps: dict[str, int], token_budget: int) -> Allocation:
    active = [group for group in weights if weights[group] > 0]
    total = min(token_budget, sum(caps[group] for group in active))
    # theta grows from 0; a group stops at theta = C_g / w_g, so groups stop in that order.
    order = sorted(active, key=lambda group: caps[group] / weights[group])
    theta, spent, remaining = Fraction(0), Fraction(0), sum(weights[group] for group in active)
    phases = [Phase(0, _normalised(weights))] if active else []
    for position, group in enumerate(order):
        step = caps[group] / weights[group] - theta
        if spent + step * remaining >= total:
            theta += (total - spent) / remaining
            break
        theta, spent, remaining = theta + step, spent + step * remaining, remaining - weights[group]
        phases.append(Phase(math.ceil(spent), _normalised(weights, kept=order[position + 1 :])))
    shares = {group: min(Fraction(caps[group]), theta * weights[group]) for group in weights}
    return Allocation(_whole(shares, total), _merged(phases), token_budget - total)


def _normalised(weights: Mapping[str, Fraction], kept: Sequence[str] | None = None) -> dict[str, float]:
    kept = list(weights) if kept is None else kept
    total = sum(weights[group] for group in kept)
    return {group: float(weight / total) if group in kept else 0.0 for group, weight in weights.items()}


def _merged(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """Of phases that start at the same token, the last one holds."""
    return tuple({phase.from_token: phase for phase in phases}.values())


def _whole(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    """Whole tokens by largest remainder, ties to the earlier group; they sum to `total` exactly."""
    tokens = {group: math.floor(share) for group, share in shares.items()}
    by_remainder = sorted(shares, key=lambda group: tokens[group] - shares[group])
    for group in by_remainder[: total - sum(tokens.values())]:
        tokens[group] += 1
    return tokens
