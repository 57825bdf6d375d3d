from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.export.exporting import export_mixture
from automixer_assets.export.format import Counts
from automixer_assets.export.weights import group_tokens, in_unit, run_shares, without_empty

shares = st.lists(st.floats(1e-4, 1), min_size=1, max_size=8).map(
    lambda weights: {f"g{i}": weight / sum(weights) for i, weight in enumerate(weights)}
)


@given(shares, st.data())
def test_documents_drawn_by_the_restated_weights_give_tokens_in_the_shares(shares, data):
    documents = {name: data.draw(st.integers(1, 10**6)) for name in shares}
    counts = {name: Counts(n, n * data.draw(st.integers(1, 10**4))) for name, n in documents.items()}
    weights = in_unit(shares, counts, "documents")
    assert sum(weights.values()) == pytest.approx(1)
    drawn = {name: weights[name] * counts[name].tokens / counts[name].documents for name in shares}
    for name, share in shares.items():
        assert drawn[name] / sum(drawn.values()) == pytest.approx(share)


@given(shares)
def test_weights_of_tokens_and_of_sequences_are_the_shares(shares):
    counts = {name: Counts(3, 100) for name in shares}
    assert in_unit(shares, counts, "tokens") == in_unit(shares, counts, "sequences") == shares


@given(shares, st.integers(1, 10**13))
def test_tokens_of_the_groups_are_whole_and_sum_to_the_run(shares, run_tokens):
    tokens = group_tokens(shares, run_tokens)
    assert sum(tokens.values()) == run_tokens
    for name, share in shares.items():
        assert abs(tokens[name] - share * run_tokens) <= 1 + run_tokens * 1e-15


def test_a_group_without_tokens_leaves_its_share_to_the_others_in_proportion():
    counts = {"a": Counts(1, 10), "b": Counts(0, 0), "c": Counts(1, 10)}
    assert without_empty({"a": 0.1, "b": 0.5, "c": 0.4}, counts) == pytest.approx({"a": 0.2, "c": 0.8})


def test_under_caps_the_shares_are_those_of_the_whole_run(capped):
    allocated = {group.name: group.allocated_tokens for group in capped.manifest.groups}
    assert allocated == {"short": 12_000, "long": 44_000, "tiny": 4_000}  # caps of two passes, the rest to the long one
    assert run_shares(capped.manifest) == pytest.approx({name: n / 60_000 for name, n in allocated.items()})


@pytest.mark.parametrize("format", ["megatron", "hf", "olmo-core"])
def test_under_caps_no_group_is_read_more_often_than_allowed(capped, tmp_path, format):
    report = export_mixture(**capped.options(), format=format, out=tmp_path / "out", location=Path("/data"))
    assert report.document["run_tokens"] == 60_000
    passes = {group["name"]: group["passes"] for group in report.document["groups"]}
    assert passes == pytest.approx({"short": 2.0, "long": 1.1, "tiny": 2.0})
    assert "none has passed its cap" in report.document["exhaustion"]
