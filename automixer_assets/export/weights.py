"""A mixture's weights as a trainer counts: token shares over the whole run, restated in the format's unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, Unit
from automixer_assets.mixture.manifest import Manifest, ManifestPhase


def run_shares(manifest: Manifest) -> dict[str, float]:
    """Share of the whole run's tokens by group, zero ones left out; they sum to 1.

    Under `repeat` these are the weights. Under `stop_and_raise_others` they are what the phases come to: a trainer
    whose weights never change takes the same tokens from every group as the phases do, in another order.
    """
    if manifest.exhaustion_policy == "repeat":
        shares = {group.name: group.weight for group in manifest.groups}
    else:
        shares = {group.name: float(group.allocated_tokens) for group in manifest.groups}
    return _normalised(shares)


def without_empty(shares: Mapping[str, float], counts: Mapping[str, Counts]) -> dict[str, float]:
    """The shares of groups that have tokens; they sum to 1.

    Raises:
        AutomixerError: no group has any.
    """
    kept = {name: share for name, share in shares.items() if counts[name].tokens}
    if not kept:
        raise AutomixerError("no group of the mixture has a token to export: materialise grouped_shards again")
    return _normalised(kept)


def run_length(manifest: Manifest, shares: Mapping[str, float], ratios: Mapping[str, float]) -> int:
    """Tokens of the run, in the trainer's tokens.

    The budget itself under `repeat`. Where groups stop at a cap, the longest run up to the allotted tokens in which no
    group is read more often than the manifest allows.

    Args:
        manifest: the mixture.
        shares: group -> share of the run's tokens.
        ratios: group -> the trainer's tokens per token of the mixture.
    """
    if manifest.exhaustion_policy == "repeat":
        return manifest.token_budget
    allotted = {group.name: group.allocated_tokens for group in manifest.groups}
    allowed = [allotted[name] * ratios[name] / share for name, share in shares.items()]
    return min(round(min(allowed)), manifest.token_budget - manifest.shortfall)


def group_tokens(shares: Mapping[str, float], run_tokens: int) -> dict[str, int]:
    """Whole tokens by group, summing to `run_tokens`: by largest remainder, ties to the earlier group."""
    exact = {name: share * run_tokens for name, share in shares.items()}
    tokens = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: tokens[name] - exact[name])
    for name in by_remainder[: run_tokens - sum(tokens.values())]:
        tokens[name] += 1
    return tokens


def in_unit(shares: Mapping[str, float], counts: Mapping[str, Counts], unit: Unit) -> dict[str, float]:
    """Weights that make a trainer which draws `unit`s take tokens in the given shares; they sum to 1.

    A trainer that draws documents takes p_g x mean tokens of g per draw, so p_g is proportional to w_g / mean tokens.
    """
    if unit != "documents":
        return dict(shares)
    return _normalised({name: share * counts[name].documents / counts[name].tokens for name, share in shares.items()})


def shares_over_time(manifest: Manifest, shares: Mapping[str, float]) -> tuple[ManifestPhase, ...]:
    """The manifest's phases for the groups that are exported."""
    phases = []
    for phase in manifest.phases:
        kept = {name: phase.weights[name] for name in shares}
        if any(kept.values()):
            weights = {**dict.fromkeys(kept, 0.0), **_normalised(kept)}
            phases.append(ManifestPhase(from_token=phase.from_token, weights=weights))
    return tuple(phases)


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    positive = {name: weight for name, weight in weights.items() if weight > 0}
    total = sum(positive.values())
    return {name: weight / total for name, weight in positive.items()}
