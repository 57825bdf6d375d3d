from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.answers.attribution import Ingredients, PartSums, no_sums, shapley


def _mean_over_orders(factors, value, group):
    """The definition: what each factor adds when its turn comes, over all orders."""
    parts = dict.fromkeys(factors, 0.0)
    orders = list(permutations(factors))
    for order in orders:
        taken = frozenset()
        for factor in order:
            parts[factor] += (value(taken | {factor})[group] - value(taken)[group]) / len(orders)
            taken |= {factor}
    return parts


@given(st.lists(st.floats(-5, 5), min_size=16, max_size=16))
def test_parts_are_the_mean_over_all_orders_and_add_up(numbers: list[float]):
    factors = ("documents", "threshold", "alpha", "rule")

    def value(taken: frozenset[str]) -> dict[str, float]:
        return {"g": numbers[sum(1 << i for i, factor in enumerate(factors) if factor in taken)]}

    parts = shapley(factors, value)["g"]
    assert parts == pytest.approx(_mean_over_orders(factors, value, "g"), abs=1e-12)
    assert sum(parts.values()) == pytest.approx(numbers[15] - numbers[0], abs=1e-12)


def test_a_factor_that_changes_nothing_gets_nothing():
    parts = shapley(("a", "b"), lambda taken: {"g": 3.0 if "a" in taken else 1.0})
    assert parts == {"g": {"a": 2.0, "b": 0.0}}


def _sums(tokens: list[float], utility: list[list[float]]) -> PartSums:
    return PartSums(np.array(tokens), np.array(utility), np.zeros(2), 0.0, 1.0)


def test_weights_of_a_mix_take_common_documents_by_one_side_and_the_others_by_their_own():
    common = {"A": _sums([10, 10], [[10, 0], [0, 10]]), "B": _sums([5, 10], [[8, 0], [0, 10]])}
    only = {
        ("A", "A"): no_sums(2),
        ("A", "B"): no_sums(2),
        ("B", "A"): _sums([10, 0], [[30, 0], [0, 0]]),
        ("B", "B"): _sums([5, 0], [[22, 0], [0, 0]]),
    }
    alphas = {"A": np.array([0.5, 0.5]), "B": np.array([0.25, 0.75])}
    rules = {"A": "equation", "B": "equation"}
    found = Ingredients(("g", "h"), common, only, alphas, rules, scores_differ=False, groups_differ=False)
    assert found.weights(frozenset()) == pytest.approx({"g": 0.5, "h": 0.5})
    # 0.5 x (10 + 30) / 20 against 0.5 x 10 / 10
    assert found.weights(frozenset({"documents"})) == pytest.approx({"g": 1 / 1.5, "h": 0.5 / 1.5})
    # 0.25 x (8 + 22) / 10 against 0.75 x 10 / 10
    everything = frozenset({"documents", "threshold", "alpha"})
    assert found.weights(everything) == pytest.approx({"g": 0.5, "h": 0.5})
    parts = found.attribution()["g"]
    assert sum(parts.values()) == pytest.approx(0, abs=1e-15)
    assert parts["documents"] > 0.1
    assert parts["alpha"] < -0.1


def test_a_group_that_nothing_is_left_of_weighs_nothing():
    common = {side: _sums([0, 10], [[0, 0], [0, 10]]) for side in "AB"}
    only = {(side, cut): no_sums(2) for side in "AB" for cut in "AB"}
    alphas = {side: np.array([0.5, 0.5]) for side in "AB"}
    found = Ingredients(("g", "h"), common, only, alphas, {"A": "equation", "B": "equation"}, False, False)
    assert found.weights(frozenset()) == {"g": 0.0, "h": 1.0}
