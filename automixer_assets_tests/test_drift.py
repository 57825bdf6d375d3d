"""Drift is measured as an independent reference measures it, and chance is not taken for drift."""

from __future__ import annotations

import math
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.drift import MINIMUM_DOCUMENTS, category_movement, number_movement, stability

values = st.lists(
    st.one_of(st.none(), st.sampled_from([0.0, 1.0, -1.0, 2.5]), st.floats(-1e6, 1e6), st.just(math.nan)),
    min_size=1,
    max_size=60,
)


def slow_index(previous: list[float | None], current: list[float | None]) -> float:
    """The stability index over tenths of the previous finite values, missing ones as a bin of their own."""

    def finite(sample: list[float | None]) -> list[float]:
        return sorted(value for value in sample if value is not None and math.isfinite(value))

    base = finite(previous) or finite(current)
    edges = sorted({base[math.floor(i / 10 * (len(base) - 1))] for i in range(1, 10)})

    def bin_of(value: float | None) -> int:
        if value is None or not math.isfinite(value):
            return len(edges) + 1
        return sum(value > edge for edge in edges)

    bins = [
        [sum(bin_of(value) == place for value in sample) for place in range(len(edges) + 2)]
        for sample in (previous, current)
    ]
    used = [place for place in range(len(edges) + 2) if bins[0][place] or bins[1][place]]
    if len(used) < 2:
        return 0.0
    shares = [[(bins[s][place] + 0.5) / (sum(bins[s]) + 0.5 * len(used)) for place in used] for s in (0, 1)]
    return sum((new - old) * math.log(new / old) for old, new in zip(*shares, strict=True))


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_the_index_of_numbers_is_the_references(previous: list[float | None], current: list[float | None]):
    found = number_movement("x", pl.Series(previous, dtype=pl.Float64), pl.Series(current, dtype=pl.Float64))
    if not any(value is not None and math.isfinite(value) for value in [*previous, *current]):
        assert found is None
    else:
        assert found is not None
        assert found.index == pytest.approx(slow_index(previous, current), abs=1e-12)


def test_the_index_of_two_histograms_by_hand():
    index, _ = stability([30, 70], [60, 40])
    old, new = (30.5 / 101, 70.5 / 101), (60.5 / 101, 40.5 / 101)
    assert index == pytest.approx(sum((n - o) * math.log(n / o) for o, n in zip(old, new, strict=True)))
    assert stability([5, 0, 0], [9, 0, 0]) == (0.0, 0.0)
    assert stability([0, 0], [3, 4]) == (0.0, 0.0)


def test_samples_of_one_distribution_stay_below_the_noise():
    generator = np.random.default_rng(0)
    beyond = 0
    for n, m in [(60, 60), (500, 80), (5000, 200)] * 100:
        old, new = (pl.Series(generator.lognormal(size=size)) for size in (n, m))
        found = number_movement("x", old, new)
        assert found is not None
        beyond += found.index > found.noise
    assert beyond <= 3, "the noise is what one in a thousand exceeds"


def test_a_shifted_distribution_is_said_with_its_shift():
    generator = np.random.default_rng(1)
    old = pl.Series(generator.normal(size=4000))
    found = number_movement("tokens", old, old + 2 * 1.349)
    assert found is not None
    assert found.shift == pytest.approx(2.0, rel=0.05)
    assert found.beyond(0.25, 0.5) == [
        f"stability index {found.index:.2f}",
        f"quartiles by {found.shift:+.2f} interquartile ranges",
    ]
    assert found.beyond(99, 99) == []
    moved = [after - before for _, before, after in found.quantiles]
    assert moved == pytest.approx([2 * 1.349] * 5)


def test_tiny_samples_are_not_judged():
    found = number_movement("x", pl.Series([0.0] * 1000), pl.Series([1.0] * (MINIMUM_DOCUMENTS - 1)))
    assert found is not None
    assert found.index > 1
    assert found.beyond(0.1, 0.1) == []
    enough = number_movement("x", pl.Series([0.0] * 1000), pl.Series([1.0] * MINIMUM_DOCUMENTS))
    assert enough is not None
    assert enough.beyond(0.1, 0.1), "all ties: no spread to measure by, but the index sees it"
    assert enough.shift is None


def test_a_column_that_went_missing_is_drift_and_one_that_was_never_there_is_nothing():
    there, gone = pl.Series([1.0, 2.0] * 100), pl.Series([None] * 200, dtype=pl.Float64)
    found = number_movement("score", there, gone)
    assert found is not None
    assert found.shift is None
    assert found.beyond(0.25, 0.5)
    assert number_movement("score", gone, gone) is None
    assert category_movement("language", gone.cast(pl.String), gone.cast(pl.String)) is None


def test_categories_are_compared_by_name_however_they_are_ordered():
    old = ["en"] * 90 + ["de"] * 10 + [None] * 5
    new = ["de"] * 60 + ["en"] * 30 + ["fr"] * 10
    random.Random(0).shuffle(new)
    found = category_movement("language", pl.Series(old), pl.Series(new))
    assert found is not None
    counts = [[90, 10, 0, 5], [30, 60, 10, 0]]
    assert found.index == pytest.approx(stability(*counts)[0])
    assert found.beyond(0.25, 0.5)
    many = [f"language-{i:03d}" for i in range(100)]
    same = category_movement("language", pl.Series(many), pl.Series(many))
    assert same is not None
    assert same.index == 0
