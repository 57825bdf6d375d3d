from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.answers.formulas import play
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.samples import sample_keys
from automixer_assets.answers.shards import utility_at_rank
from automixer_assets.mixture.budget import allocate
from automixer_assets.mixture.manifest import Subsample
from automixer_assets_tests.answers.conftest import Answers

finite = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0]), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.lists(finite, max_size=8), min_size=1, max_size=4).filter(lambda parts: any(parts)), st.data())
def test_the_utility_at_a_rank_is_that_of_the_sorted_list(parts: list[list[float]], data: st.DataObject):
    everything = sorted((value for part in parts for value in part), reverse=True)
    rank = data.draw(st.integers(1, len(everything)))
    found = utility_at_rank(lambda: [np.array(part, dtype=np.float64) for part in parts], rank)
    assert found == everything[rank - 1]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 400)), min_size=1, max_size=4),
    st.integers(1, 2000),
    st.one_of(st.none(), st.sampled_from([0.05, 0.5, 1.0, 3.0])),
)
def test_a_run_that_is_played_ends_as_the_closed_form_says(
    groups: list[tuple[int, int]], budget: int, epochs: float | None
):
    weights = {f"g{i}": weight / sum(w for w, _ in groups) for i, (weight, _) in enumerate(groups)}
    sizes = {f"g{i}": size for i, (_, size) in enumerate(groups)}
    closed = allocate(
        weights=weights,
        group_tokens=sizes,
        token_budget=budget,
        exhaustion_policy="repeat" if epochs is None else "stop_and_raise_others",
        max_epochs=epochs,
    )
    caps = {} if epochs is None else {group: math.floor(epochs * size) for group, size in sizes.items()}
    played = play(weights, caps, budget)
    assert played.tokens == closed.tokens
    assert played.shortfall == closed.shortfall
    assert [at for at, _ in played.phases] == [phase.from_token for phase in closed.phases]
    assert played.stopped == closed.stopped_by.keys()


def _sampled(inputs: PinnedInputs) -> list[tuple[str, Subsample]]:
    return [(group.name, group.subsample) for group in inputs.manifest.groups if group.subsample is not None]


def test_sample_keys_are_those_of_the_sql(answers: Answers):
    from automixer_assets.mixture.selected import sampled_rows

    inputs = answers.inputs("paper")
    assert _sampled(inputs)
    for group in inputs.manifest.groups:
        for shard in group.shards:
            path = inputs.lake.root / shard.uri
            selection = _selection(path)
            assert group.subsample is not None
            inside = sample_keys(selection, group.name, group.subsample) <= group.subsample.cutoff
            assert selection.filter(inside)["row"].to_list() == sampled_rows(path, group)["row"].to_list()


def _selection(path):
    import polars as pl

    return pl.read_parquet(path)


def test_weights_that_a_group_alone_has_are_one():
    assert play({"g": 1.0}, {"g": 5}, 10).shortfall == pytest.approx(5)
