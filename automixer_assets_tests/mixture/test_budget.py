from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.budget import Allocation, Constraint, allocate, document_constraints, group_cap
from automixer_assets_tests.mixture.reference import play_budget, play_limited

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


@st.composite
def limited(draw: st.DrawFn) -> tuple[dict[str, float], dict[str, int], list[dict[str, int]], float | None, float]:
    """weights, T_g, copies of documents per group, max_epochs, max_document_epochs."""
    weights, tokens = named(draw(st.lists(st.tuples(st.integers(1, 20), st.integers(20, 400)), min_size=1, max_size=5)))
    some = st.dictionaries(st.sampled_from(list(weights)), st.integers(1, 3), min_size=1)
    copies = draw(st.lists(some, min_size=1, max_size=4))
    return weights, tokens, copies, draw(st.sampled_from([None, 0.5, 2.5])), draw(st.sampled_from([0.7, 1.0, 3.0]))


def fill(case, budget: int) -> tuple[Allocation, list[tuple[dict[str, Fraction], Fraction]]]:
    """The allocation, and all its limits as (group -> factor, limit), written down a second time."""
    weights, tokens, copies, max_epochs, document_epochs = case
    allocation = allocate(
        weights=weights,
        group_tokens=tokens,
        token_budget=budget,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=max_epochs,
        constraints=document_constraints(copies, tokens, document_epochs),
    )
    tenth = Fraction(1, 10)
    limits = [
        ({group: Fraction(count, tokens[group]) for group, count in each.items()}, round(document_epochs * 10) * tenth)
        for each in copies
    ]
    if max_epochs is not None:
        limits += [({group: Fraction(1)}, Fraction(int(max_epochs * tokens[group]))) for group in weights]
    return allocation, limits


@settings(max_examples=100, deadline=None)
@given(case=limited(), budget=st.integers(1, 3000))
def test_no_limit_is_broken_and_the_tokens_and_the_shortfall_are_the_budget(case, budget):
    allocation, limits = fill(case, budget)
    assert sum(allocation.tokens.values()) + allocation.shortfall == budget
    for factors, limit in limits:
        assert sum(factor * allocation.tokens[group] for group, factor in factors.items()) <= limit
    unstopped = set(allocation.tokens) - set(allocation.stopped_by)
    assert allocation.shortfall < len(allocation.tokens) or not unstopped


@settings(max_examples=60, deadline=None)
@given(case=limited(), budget=st.integers(1, 1500))
def test_progressive_filling_is_the_step_by_step_game(case, budget):
    allocation, limits = fill(case, budget)
    step = 0.25
    floats = [({group: float(factor) for group, factor in factors.items()}, float(limit)) for factors, limit in limits]
    played = play_limited(case[0], floats, budget, step)
    # A group that leaves a step early lets every other have that much more, and so on.
    assert {group: abs(allocation.tokens[group] - played[group]) <= 2 + 8 * step for group in played} == dict.fromkeys(
        played, True
    )


@settings(max_examples=60, deadline=None)
@given(case=limited(), budget=st.integers(1, 2000), more=st.integers(0, 500))
def test_a_larger_budget_gives_no_group_less(case, budget, more):
    less, greater = fill(case, budget)[0], fill(case, budget + more)[0]
    for group, tokens in less.tokens.items():
        assert greater.tokens[group] >= tokens - 1  # whole tokens by largest remainder may move by one
    assert greater.shortfall >= less.shortfall - len(case[0])
    assert set(less.stopped_by) <= set(greater.stopped_by)


@settings(max_examples=60, deadline=None)
@given(case=limited(), budget=st.integers(1, 3000))
def test_groups_that_nothing_stops_share_one_theta(case, budget):
    allocation, _ = fill(case, budget)
    rising = [group for group in case[0] if group not in allocation.stopped_by]
    thetas = [(allocation.tokens[group] / case[0][group], case[0][group]) for group in rising]
    for theta, weight in thetas:
        for other, other_weight in thetas:
            assert abs(theta - other) <= 2 / weight + 2 / other_weight
        for group in allocation.stopped_by:
            assert allocation.tokens[group] / case[0][group] <= theta + 2 / weight + 2 / case[0][group]


@settings(max_examples=60, deadline=None)
@given(case=limited(), budget=st.integers(1, 3000))
def test_the_phases_of_shared_limits_lead_to_the_allocation(case, budget):
    allocation, _ = fill(case, budget)
    starts = [phase.from_token for phase in allocation.phases]
    given_tokens = dict.fromkeys(case[0], 0.0)
    for phase, end in zip(allocation.phases, [*starts[1:], budget - allocation.shortfall], strict=True):
        for group in case[0]:
            given_tokens[group] += phase.weights[group] * (end - phase.from_token)
    for group, tokens in allocation.tokens.items():
        assert abs(given_tokens[group] - tokens) <= 2 + len(case[0])


def test_a_document_of_two_groups_stops_both_and_the_third_rises():
    allocation = allocate(
        weights={"a": 0.4, "b": 0.4, "c": 0.2},
        group_tokens={"a": 100, "b": 100, "c": 100},
        token_budget=300,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=None,
        constraints=document_constraints([{"a": 1, "b": 1}], {"a": 100, "b": 100}, 1.0),
    )
    assert allocation.tokens == {"a": 50, "b": 50, "c": 200}
    assert allocation.phases[1].from_token == 125
    assert allocation.phases[1].weights == {"a": 0.0, "b": 0.0, "c": 1.0}
    assert allocation.stopped_by["a"] == "documents that are read 1 times, held by a, b"


def test_copies_of_a_document_count_as_often():
    constraints = document_constraints([{"a": 4}, {"a": 1, "b": 1}, {"a": 2}], {"a": 100, "b": 100}, 2.0)
    assert [each.factors for each in constraints] == [
        {"a": Fraction(4, 100)},
        {"a": Fraction(1, 100), "b": Fraction(1, 100)},
    ]


def test_a_groups_own_cap_replaces_the_common_one():
    tokens = {"a": 100, "b": 100, "c": 100}
    allocation = allocate(
        weights={"a": 1 / 3, "b": 1 / 3, "c": 1 / 3},
        group_tokens=tokens,
        token_budget=1000,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=1.0,
        caps={"a": group_cap("a", 100, epochs=3.0, tokens=250), "b": group_cap("b", 100, epochs=0.5)},
    )
    assert allocation.tokens == {"a": 250, "b": 50, "c": 100}
    assert allocation.stopped_by == {
        "a": "its cap of 250 tokens",
        "b": "its cap of 0.5 epochs",
        "c": "its cap of 1 epochs",
    }
    assert allocation.shortfall == 600


def test_a_whole_token_that_would_break_a_limit_goes_to_another_group():
    shared = Constraint({"a": Fraction(1), "b": Fraction(1)}, Fraction(3), "test")
    allocation = allocate(
        weights={"a": 0.5, "b": 0.5, "c": 0.0},
        group_tokens={"a": 10, "b": 10, "c": 10},
        token_budget=9,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=None,
        constraints=[shared],
    )
    assert (allocation.tokens, allocation.shortfall) == ({"a": 2, "b": 1, "c": 0}, 6)
