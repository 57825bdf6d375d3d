"""Token budget: how many tokens each group gives, in closed form (paper, section 5; DESIGN: budget and caps).

Under `stop_and_raise_others` a group that reaches a limit is no longer sampled and the other weights rise in
proportion. Played to the end that is progressive filling: every group gives theta w_g tokens, theta rises, and a limit
that becomes tight stops the groups that it names. A cap names one group, which gives n_g = min(C_g, theta w_g); a limit
on how often a document is read names all groups that hold the document. Arithmetic is exact.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
class Constraint:
    """sum over groups of factors[g] * tokens[g] <= limit; factors are positive, `reason` says it in words."""

    factors: Mapping[str, Fraction]
    limit: Fraction
    reason: str

    def allows(self, tokens: Mapping[str, int]) -> bool:
        return sum(factor * tokens[group] for group, factor in self.factors.items()) <= self.limit

    def tight_at(self, weights: Mapping[str, Fraction], stopped: Mapping[str, Fraction]) -> Fraction | None:
        """The theta at which the groups not yet stopped reach the limit; None if none of them is named."""
        given, slope = Fraction(0), Fraction(0)
        for group, factor in self.factors.items():
            if group in stopped:
                given += factor * stopped[group]
            else:
                slope += factor * weights[group]
        return (self.limit - given) / slope if slope else None


@dataclass(frozen=True)
class Allocation:
    """Tokens per group summing to token_budget - shortfall, and the schedule that leads there."""

    tokens: dict[str, int]
    phases: tuple[Phase, ...]
    shortfall: int
    stopped_by: dict[str, str] = field(default_factory=dict)
    """Group -> the constraint that stopped it, in words."""


def allocate(
    *,
    weights: Mapping[str, float],
    group_tokens: Mapping[str, int],
    token_budget: int,
    exhaustion_policy: ExhaustionPolicy,
    max_epochs: float | None,
    caps: Mapping[str, Constraint] | None = None,
    constraints: Sequence[Constraint] = (),
) -> Allocation:
    """Share a token budget among groups.

    Args:
        weights: group -> sampling weight.
        group_tokens: group -> T_g.
        token_budget: T.
        exhaustion_policy: `repeat` reads a group as often as its weight asks; `stop_and_raise_others` stops it.
        max_epochs: the cap of a group without one of its own, C_g = max_epochs * T_g.
        caps: group -> its own cap, from `group_cap`.
        constraints: on several groups together, from `document_constraints`.

    Raises:
        AutomixerError: groups are to stop, but nothing says where.
    """
    exact = {group: Fraction(weight) for group, weight in weights.items()}
    if exhaustion_policy == "repeat":
        total = sum(exact.values())
        shares = {group: token_budget * weight / total for group, weight in exact.items()}
        return Allocation(_whole(shares, token_budget, ()), (Phase(0, _normalised(exact, exact)),), 0)
    capped = dict(caps or {})
    if max_epochs is not None:
        capped = {group: group_cap(group, group_tokens[group], epochs=max_epochs) for group in weights} | capped
    constraints = [*capped.values(), *constraints]
    if not constraints:
        raise AutomixerError("exhaustion_policy `stop_and_raise_others` needs a cap; set the mixture's `max_epochs`")
    return _fill(exact, constraints, token_budget)


def group_cap(group: str, n_tokens: int, *, epochs: float | None = None, tokens: int | None = None) -> Constraint:
    """C_g: so many passes over the group's T_g tokens, or so many tokens, whichever is less; one of them is given."""
    caps = [] if epochs is None else [(math.floor(_decimal(epochs) * n_tokens), f"its cap of {epochs:g} epochs")]
    if tokens is not None:
        caps.append((tokens, f"its cap of {tokens:,} tokens"))
    limit, reason = min(caps)
    return Constraint({group: Fraction(1)}, Fraction(limit), reason)


def document_constraints(
    copies: Sequence[Mapping[str, int]], group_tokens: Mapping[str, int], max_document_epochs: float
) -> list[Constraint]:
    """No document is expected to be read more often: sum over groups of copies_g n_g / T_g <= max_document_epochs.

    Args:
        copies: of every document, or of every different case: group -> how many copies of its content the group holds.
    """
    return [
        Constraint(
            {group: Fraction(count, group_tokens[group]) for group, count in each.items()},
            _decimal(max_document_epochs),
            f"documents that are read {max_document_epochs:g} times, {_in_words(each)}",
        )
        for each in _largest(copies)
    ]


def _largest(copies: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
    """Cases that no other case contains: only these can become tight first."""
    largest: list[Mapping[str, int]] = []
    for each in sorted(copies, key=lambda case: (-sum(case.values()), sorted(case.items()))):
        if not any(all(other.get(group, 0) >= count for group, count in each.items()) for other in largest):
            largest.append(each)
    return largest


def _in_words(copies: Mapping[str, int]) -> str:
    return "held by " + ", ".join(
        f"{group} ({count} copies)" if count > 1 else group for group, count in copies.items()
    )


def _decimal(value: float) -> Fraction:
    """The decimal that the user wrote: 0.1 is a tenth."""
    return Fraction(str(value))


def _fill(weights: dict[str, Fraction], constraints: Sequence[Constraint], token_budget: int) -> Allocation:
    stopped = {group: Fraction(0) for group, weight in weights.items() if weight == 0}
    stopped_by: dict[str, str] = {}
    phases = [Phase(0, _normalised(weights, weights))]
    theta = Fraction(0)
    while rising := [group for group in weights if group not in stopped]:
        # Without a further constraint theta rises until the budget is spent.
        theta = (token_budget - sum(stopped.values())) / sum((weights[group] for group in rising), Fraction(0))
        ends = [(end, each) for each in constraints if (end := each.tight_at(weights, stopped)) is not None]
        if not ends or min(end for end, _ in ends) >= theta:
            break
        theta = min(end for end, _ in ends)
        for each in [each for end, each in ends if end == theta]:
            stopped_by |= {group: each.reason for group in each.factors if group in rising and group not in stopped_by}
        stopped |= {group: theta * weights[group] for group in rising if group in stopped_by}
        rising = [group for group in rising if group not in stopped]
        spent = sum(stopped.values()) + theta * sum(weights[group] for group in rising)
        phases += [Phase(math.ceil(spent), _normalised(weights, rising))] if rising else []
    shares = {group: stopped.get(group, theta * weight) for group, weight in weights.items()}
    tokens = _whole(shares, math.floor(sum(shares.values())), constraints)
    return Allocation(tokens, _merged(phases), token_budget - sum(tokens.values()), stopped_by)


def _normalised(weights: Mapping[str, Fraction], kept: Collection[str]) -> dict[str, float]:
    total = sum(weights[group] for group in kept)
    return {group: float(weight / total) if group in kept else 0.0 for group, weight in weights.items()}


def _merged(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """Of phases that start at the same token, the last one holds."""
    return tuple({phase.from_token: phase for phase in phases}.values())


def _whole(shares: Mapping[str, Fraction], total: int, constraints: Sequence[Constraint]) -> dict[str, int]:
    """Whole tokens by largest remainder, ties to the earlier group; they sum to `total` where the constraints let them.

    Rounding down breaks no constraint. A token that would break one goes to the next group instead.
    """
    tokens = {group: math.floor(share) for group, share in shares.items()}
    missing, placed = total - sum(tokens.values()), True
    by_remainder = sorted((group for group in shares if shares[group] > 0), key=lambda g: tokens[g] - shares[g])
    while missing and placed:
        placed = False
        for group in by_remainder:
            more = {**tokens, group: tokens[group] + 1}
            if missing and all(each.allows(more) for each in constraints if group in each.factors):
                tokens, missing, placed = more, missing - 1, True
    return tokens
