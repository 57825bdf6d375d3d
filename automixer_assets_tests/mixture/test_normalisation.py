from __future__ import annotations

import math
import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.joint import write_joint_shard
from automixer_assets.mixture.normalisation import (
    Method,
    Normalisation,
    fit_normalisation,
    read_normalisation,
    write_normalisation,
)
from automixer_assets_tests.mixture.builders import folder
from automixer_assets_tests.mixture.test_joint import COLUMNS, write_scores

scores32 = st.one_of(st.sampled_from([-1.0, 0.0, 0.5]), st.floats(-100, 100, width=32, allow_nan=False))
samples = st.lists(st.tuples(scores32, scores32), min_size=1, max_size=15)
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
METHODS: list[Method] = ["z", "median_mad", "rank", "task_rank"]


def fit(root, method: Method, rows: list[tuple[float, float]]) -> Normalisation:
    columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    return fit_normalisation(method, write_scores(root / "reference_scores.parquet", columns), COLUMNS)


def reference_rank(sample: list[float], utility: float) -> float:
    """Mid-ranks of the sample, a straight line between neighbours, flat beyond the ends."""
    ranks = {
        value: (sum(each < value for each in sample) + sample.count(value) / 2) / len(sample) for value in set(sample)
    }
    below = max((value for value in ranks if value <= utility), default=None)
    above = min((value for value in ranks if value >= utility), default=None)
    if below is None or above is None or below == above:
        return ranks[below if below is not None else min(ranks)]
    return ranks[below] + (ranks[above] - ranks[below]) * (utility - below) / (above - below)


@quick
@given(rows=samples)
@pytest.mark.parametrize("method", ["z", "median_mad"])
def test_center_and_scale_are_those_of_the_sample(method, rows):
    values = [0 - (a + b) / 2 for a, b in rows]
    center = statistics.median(values) if method == "median_mad" else math.fsum(values) / len(values)
    if method == "median_mad":
        scale = statistics.median(abs(value - center) for value in values)
    else:
        scale = math.sqrt(math.fsum((value - center) ** 2 for value in values) / len(values))
    with folder() as root:
        if len(set(values)) == 1 or scale == 0:
            with pytest.raises(AutomixerError, match=f"{method} cannot scale"):
                fit(root, method, rows)
        else:
            found = fit(root, method, rows)
            assert (found.center, found.scale) == pytest.approx((center, scale), rel=1e-9, abs=1e-12)


@quick
@given(rows=samples, scored=st.lists(scores32, min_size=1, max_size=12))
def test_ranks_are_read_off_the_sample(rows, scored):
    values = [0 - (a + b) / 2 for a, b in rows]
    with folder() as root:
        if len(set(values)) == 1:
            with pytest.raises(AutomixerError, match="1 different scores"):
                fit(root, "rank", rows)
            return
        constants = {"g": fit(root, "rank", rows)}
        path = write_scores(root / "a.parquet", {COLUMNS[0]: scored})
        out = root / "o.parquet"
        write_joint_shard(
            scores={"g": path}, columns={"g": COLUMNS[:1]}, alphas={"g": 1.0}, constants=constants, out=out
        )
        found = pl.read_parquet(out)["utility__g"].to_list()
    assert found == pytest.approx([reference_rank(values, 0 - score) for score in scored], abs=1e-12)


@quick
@given(rows=samples, scored=st.lists(st.tuples(scores32, scores32), min_size=1, max_size=12))
def test_ranks_of_tasks_are_averaged(rows, scored):
    by_task = [[0 - row[task] for row in rows] for task in (0, 1)]
    with folder() as root:
        if any(len(set(values)) == 1 for values in by_task):
            with pytest.raises(AutomixerError, match="1 different scores in influence_"):
                fit(root, "task_rank", rows)
            return
        constants = {"g": fit(root, "task_rank", rows)}
        path = write_scores(root / "a.parquet", {COLUMNS[task]: [row[task] for row in scored] for task in (0, 1)})
        out = root / "o.parquet"
        write_joint_shard(scores={"g": path}, columns={"g": COLUMNS}, alphas={"g": 1.0}, constants=constants, out=out)
        found = pl.read_parquet(out)["utility__g"].to_list()
    expected = [sum(reference_rank(by_task[task], 0 - row[task]) for task in (0, 1)) / 2 for row in scored]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_task_with_large_scores_has_no_larger_say(tmp_path):
    rows = [tuple(row) for row in np.random.default_rng(2).normal(size=(64, 2)).tolist()]
    found = []
    for name, factor in (("even", 1.0), ("loud", 1000.0)):
        scaled = [(factor * first, second) for first, second in rows]
        constants = {"g": fit(tmp_path, "task_rank", scaled)}
        columns = dict(zip(COLUMNS, map(list, zip(*scaled, strict=True)), strict=True))
        path, out = write_scores(tmp_path / f"{name}.parquet", columns), tmp_path / f"joint-{name}.parquet"
        write_joint_shard(scores={"g": path}, columns={"g": COLUMNS}, alphas={"g": 1.0}, constants=constants, out=out)
        found.append(pl.read_parquet(out)["utility__g"].to_list())
    assert found[0] == pytest.approx(found[1], abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_more_documents_leave_old_utilities_as_they_are(tmp_path, method):
    generator = np.random.default_rng(1)
    constants = {"g": fit(tmp_path, method, [tuple(row) for row in generator.normal(size=(64, 2)).tolist()])}
    scores = generator.normal(size=500).tolist()
    found = []
    for name, rows in (("few", scores[:100]), ("many", scores)):
        path = write_scores(tmp_path / f"{name}.parquet", {COLUMNS[0]: rows})
        out = tmp_path / f"joint-{name}.parquet"
        write_joint_shard(
            scores={"g": path}, columns={"g": COLUMNS[:1]}, alphas={"g": 1.0}, constants=constants, out=out
        )
        found.append(pl.read_parquet(out)["utility__g"].to_list())
    assert found[0] == found[1][:100]
    by_score = [utility for _, utility in sorted(zip(scores, found[1], strict=True))]
    assert by_score == sorted(by_score, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_constants_are_read_back_as_they_were_written(tmp_path, method):
    constants = {"a-1": fit(tmp_path, method, [(0.1, 0.7), (1 / 3, 2.0), (5.0, -1e-30)])}
    write_normalisation(constants, tmp_path / "joint")
    assert read_normalisation(tmp_path / "joint") == constants
    assert read_normalisation(tmp_path) == {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_reference_score_that_is_no_number_is_refused(tmp_path, method, value):
    with pytest.raises(AutomixerError, match="1 documents with a null or NaN score"):
        fit(tmp_path, method, [(1.0, 2.0), (0.5, value), (3.0, 1.0)])


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_score_column_is_named(tmp_path, method):
    path = write_scores(tmp_path / "reference_scores.parquet", {COLUMNS[0]: [1.0, 2.0]})
    with pytest.raises(AutomixerError, match=f"has no column {COLUMNS[1]}"):
        fit_normalisation(method, path, COLUMNS)
