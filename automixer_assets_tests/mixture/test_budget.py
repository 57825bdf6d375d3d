from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.budget import Allocation, allocate
from automixer_assets_tests.mixture.reference import play_budget

cases = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1000)), min_size=1, max_size=5).filter(
    lambda groups: any(weight for weight, _ in groups)
)


def capped(weights: dict[str, float], tokens: dict[str, int], budget: int, max_epochs: float) -> Allocation:
    return allocate(
        weights=weights,
        group_tokens=tokens,
        token_budget=budget,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=max_epochs,
    )


def named(groups: list[tuple[int, int]]) -> tuple[dict[str, float], dict[str, int]]:
    total = sum(weight for weight, _ in groups)
    weights = {f"g{index}": weight / total for index, (weight, _) in enumerate(groups)}
    return weights, {f"g{index}": tokens for index, (_, tokens) in enumerate(groups)}


@settings(max_examples=60, deadline=None)
@given(groups=cases, budget=st.integers(1, 3000), max_epochs=st.sampled_from([0.5, 1.0, 2.5]))
def test_the_closed_form_is_the_step_by_step_game(groups, budget, max_epochs):
    weights, tokens = named(groups)
    caps = {group: math.floor(max_epochs * count) for group, count in tokens.items()}
    allocation = capped(weights, tokens, budget, max_epochs)
    reachable = sum(caps[group] for group in weights if weights[group] > 0)
    assert sum(allocation.tokens.values()) == min(budget, reachable)
    assert allocation.shortfall == budget - min(budget, reachable)
    step = 1.0
    played = play_budget(weights, caps, budget, step)
    for group in weights:
        assert allocation.tokens[group] <= caps[group]
        assert abs(allocation.tokens[group] - played[group]) <= 1 + len(weights) * step


@settings(max_examples=60, deadline=None)
@given(groups=cases, budget=st.integers(1, 3000))
def test_following_the_phases_leads_to_the_allocation(groups, budget):
    weights, tokens = named(groups)
    allocation = capped(weights, tokens, budget, 1.0)
    spent = budget - allocation.shortfall
    starts = [phase.from_token for phase in allocation.phases]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    given_tokens = dict.fromkeys(weights, 0.0)
    for phase, end in zip(allocation.phases, [*starts[1:], spent], strict=True):
        assert sum(phase.weights.values()) == pytest.approx(1)
        for group in weights:
            given_tokens[group] += phase.weights[group] * (end - phase.from_token)
    for group in weights:
        assert abs(given_tokens[group] - allocation.tokens[group]) <= 1 + len(weights)


def test_a_group_at_its_cap_raises_the_others_in_proportion():
    allocation = capped({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 100, "b": 1000, "c": 1000}, 700, 1.0)
    assert allocation.tokens == {"a": 100, "b": 360, "c": 240}
    assert [phase.from_token for phase in allocation.phases] == [0, 200]
    assert allocation.phases[1].weights == pytest.approx({"a": 0.0, "b": 0.6, "c": 0.4})
    assert allocation.shortfall == 0


def test_caps_below_the_budget_leave_an_explicit_shortfall():
    allocation = capped({"a": 0.5, "b": 0.5}, {"a": 10, "b": 20}, 100, 2.0)
    assert (allocation.tokens, allocation.shortfall) == ({"a": 20, "b": 40}, 40)


@settings(max_examples=60, deadline=None)
@given(groups=cases, budget=st.integers(1, 10**12))
def test_repeating_shares_the_whole_budget_by_weight(groups, budget):
    weights, tokens = named(groups)
    allocation = allocate(
        weights=weights, group_tokens=tokens, token_budget=budget, exhaustion_policy="repeat", max_epochs=None
    )
    assert sum(allocation.tokens.values()) == budget
    assert allocation.shortfall == 0
    assert len(allocation.phases) == 1
    for group, weight in weights.items():
        assert abs(allocation.tokens[group] - weight * budget) <= 1 + 1e-3


def test_stopping_without_a_cap_is_refused():
    with pytest.raises(AutomixerError, match="max_epochs"):
        allocate(
            weights={"a": 1.0},
            group_tokens={"a": 1},
            token_budget=1,
            exhaustion_policy="stop_and_raise_others",
            max_epochs=None,
        )
