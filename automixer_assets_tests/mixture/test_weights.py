from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixers.influence_density import InfluenceDensity
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.weights import (
    GroupTable,
    appendix_b_weights,
    equation_weights,
    group_tables,
    weight_contrast,
)
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint
from automixer_assets_tests.mixture.reference import density, kept, token_products

quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def tables_of(root: Path, documents: list[Document], groups: list[str], top_share: float) -> list[GroupTable]:
    regroup(joint=write_joint(root, documents, groups), top_share=top_share, out=root / "grouped")
    return group_tables(root / "grouped")


def group(name: str, rho: float, product: float = 1.0) -> GroupTable:
    return GroupTable(name, 1, 10, rho, product / 10, product)


@quick
@given(table=joint_tables(), top_share=st.sampled_from([0.01, 0.5, 1.0]))
def test_densities_and_products_agree_with_plain_python(table, top_share):
    groups, documents = table
    keep = math.ceil(round(top_share * len(documents), 9))
    members = {name: kept(documents, name, keep) for name in groups}
    assume(all(sum(each.n_tokens for each in rows) for rows in members.values()))
    products = token_products(members)
    with folder() as root:
        tables = tables_of(root, documents, groups, top_share)
    assert [each.name for each in tables] == groups
    for each in tables:
        tokens = sum(document.n_tokens for document in members[each.name])
        assert (each.n_documents, each.n_tokens) == (keep, tokens)
        assert each.density == pytest.approx(density(members[each.name]), rel=1e-12, abs=1e-6)
        assert each.token_product == pytest.approx(products[each.name], rel=1e-9, abs=1e-9)
        assert each.density_scaled == pytest.approx(products[each.name] / tokens, rel=1e-9, abs=1e-9)


def test_a_group_without_tokens_is_named(tmp_path):
    documents = [Document("A", "shard-00000", row, f"d{row}", 0, {"g": 1.0}, 1.0) for row in range(3)]
    with pytest.raises(AutomixerError, match="groups g keep no tokens"):
        tables_of(tmp_path, documents, ["g"], 0.5)


def test_equal_total_influence_counts_every_document_in_full(tmp_path):
    documents = [Document("A", "shard-00000", row, f"d{row}", 5, {"g": 2.0}, 2.0) for row in range(3)]
    (table,) = tables_of(tmp_path, documents, ["g"], 1.0)
    assert (table.density_scaled, table.token_product) == (1.0, 15.0)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6))
def test_positive_densities_give_the_papers_equation(densities):
    weights = equation_weights([group(str(index), rho) for index, rho in enumerate(densities)], "error")
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    for weight, rho in zip(weights, densities, strict=True):
        assert weight == pytest.approx(rho / sum(densities))


def test_a_density_at_or_below_zero_is_an_error_that_names_groups_and_remedy():
    groups = [group("early", 0.5), group("late", -0.25), group("flat", 0.0)]
    with pytest.raises(
        AutomixerError, match=r"late \(-0\.25\), flat \(0\).*`profile: robust` or set `nonpositive_density"
    ):
        equation_weights(groups, "error")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6).filter(lambda values: min(values) <= 0))
def test_softmax_weights_are_positive_ordered_and_free_of_the_unit(densities):
    weights = equation_weights([group(str(index), rho) for index, rho in enumerate(densities)], "softmax")
    doubled = equation_weights([group(str(index), 2 * rho) for index, rho in enumerate(densities)], "softmax")
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert min(weights) > 0
    assert doubled == pytest.approx(weights)
    ranked = [weight for _, weight in sorted(zip(densities, weights, strict=True))]
    assert ranked == sorted(ranked)


def test_softmax_of_equal_densities_is_uniform():
    assert equation_weights([group("a", -1.0), group("b", -1.0)], "softmax") == [0.5, 0.5]


def test_softmax_divides_by_the_population_deviation():
    weights = equation_weights([group("a", 1.0), group("b", -1.0)], "softmax")
    assert weights[0] / weights[1] == pytest.approx(math.exp(2))


def test_appendix_b_does_not_divide_by_tokens_and_the_rule_decides_which_weights_count():
    groups = [group("a", 1.0, product=1.0), group("b", 3.0, product=1.0)]
    assert appendix_b_weights(groups) == [0.5, 0.5]
    equation = InfluenceDensity("equation").weigh(groups)
    assert (equation.weights, equation.appendix_b) == ((0.25, 0.75), (0.5, 0.5))
    assert InfluenceDensity("appendix_b").weigh(groups).weights == (0.5, 0.5)


def test_products_that_are_all_zero_are_refused():
    with pytest.raises(AutomixerError, match="all zero"):
        appendix_b_weights([group("a", 1.0, product=0.0)])


def test_weight_contrast():
    assert weight_contrast([0.25, 0.75]) == 3.0
    assert weight_contrast([0.0, 1.0]) is None
