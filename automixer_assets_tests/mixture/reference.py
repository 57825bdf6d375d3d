"""The method in plain Python, one loop at a time: what every statement of `automixer_assets/sql` is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from automixer_assets_tests.mixture.builders import Document

Place = tuple[str, str, int]


def kept(documents: Sequence[Document], group: str, keep: int) -> list[Document]:
    """The group's documents: highest utility first, ties by doc_id and then snapshot."""
    return sorted(documents, key=lambda each: (-each.utilities[group], each.doc_id, each.snapshot))[:keep]


def density(documents: Sequence[Document]) -> float:
    return math.fsum(each.joint_utility * each.n_tokens for each in documents) / sum(
        each.n_tokens for each in documents
    )


def total_influence(members: Mapping[str, Sequence[Document]]) -> dict[Place, float]:
    """Appendix B's A(id, total_influence)."""
    totals: dict[Place, float] = {}
    for group in sorted(members):
        for each in members[group]:
            totals[each.place] = totals.get(each.place, 0.0) + each.utilities[group]
    return totals


def token_products(members: Mapping[str, Sequence[Document]]) -> dict[str, float]:
    """Appendix B's P_g."""
    totals = total_influence(members)
    low, high = min(totals.values()), max(totals.values())
    scaled = {place: (total - low) / (high - low) if high > low else 1.0 for place, total in totals.items()}
    return {
        group: math.fsum(scaled[each.place] * each.n_tokens for each in documents)
        for group, documents in members.items()
    }


def exposures(
    members: Mapping[str, Sequence[Document]], content: Mapping[Place, str], passes: Mapping[str, float]
) -> dict[str, tuple[set[str], float]]:
    """content hash -> (groups, expected exposures)."""
    ledger: dict[str, tuple[set[str], float]] = {}
    for group, documents in members.items():
        for each in documents:
            groups, total = ledger.get(content[each.place], (set(), 0.0))
            ledger[content[each.place]] = (groups | {group}, total + passes[group])
    return ledger


def play_budget(weights: Mapping[str, float], caps: Mapping[str, float], budget: int, step: float) -> dict[str, float]:
    """Stop at the cap and raise the others in proportion, a small step of tokens at a time."""
    given = dict.fromkeys(weights, 0.0)
    spent = 0.0
    while spent < budget:
        open_groups = [group for group in weights if given[group] < caps[group] and weights[group] > 0]
        if not open_groups:
            break
        total = sum(weights[group] for group in open_groups)
        for group in open_groups:
            share = min(step, budget - spent) * weights[group] / total
            given[group] += min(share, caps[group] - given[group])
        spent = sum(given.values())
        if budget - spent < 1e-9:
            break
    return given


def play_limited(
    weights: Mapping[str, float], limits: Sequence[tuple[Mapping[str, float], float]], budget: float, step: float
) -> dict[str, float]:
    """The same with limits on several groups together: (group -> factor, limit of the sum of factor * tokens).

    A small dose goes to every group that still takes part; one that it would push over a limit leaves for good.
    """
    given, open_groups = dict.fromkeys(weights, 0.0), {group for group, weight in weights.items() if weight > 0}
    while open_groups and budget - sum(given.values()) > 1e-9:
        total = sum(weights[group] for group in open_groups)
        dose = {group: min(step, budget - sum(given.values())) * weights[group] / total for group in open_groups}
        after = {group: given[group] + dose.get(group, 0.0) for group in given}
        full = [limit for limit in limits if sum(f * after[group] for group, f in limit[0].items()) > limit[1] + 1e-9]
        leaving = {group for factors, _ in full for group in factors} & open_groups
        given = given if leaving else after
        open_groups -= leaving
    return given
