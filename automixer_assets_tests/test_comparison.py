"""The comparison table equals a plain-Python reference, and pairs by seed whatever the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.comparison import MEAN_TASK, METRICS, compare

Runs = dict[str, list[dict[str, Any]]]
VALUES = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False).map(lambda value: round(value, 6))


@st.composite
def runs_of_mixtures(draw: st.DrawFn) -> Runs:
    """Up to three mixtures with the same seeds and tasks, each in a row order of its own."""
    seeds = draw(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True))
    tasks = draw(st.lists(st.sampled_from(["arc", "boolq", "piqa"]), min_size=1, unique=True))
    runs = {}
    for mixture in draw(st.lists(st.sampled_from(["uniform", "demo", "robust"]), min_size=1, unique=True)):
        rows = [
            {"seed": seed, "task": task, **{metric: draw(VALUES) for metric in METRICS}}
            for seed in seeds
            for task in tasks
        ]
        runs[mixture] = draw(st.permutations(rows))
    return runs


def reference(runs: Runs, baseline: str) -> dict[tuple[str, str, str], dict[str, float | None]]:
    scores = {mixture: _by_task_and_metric(rows) for mixture, rows in runs.items()}
    table = {}
    for mixture, cells in scores.items():
        for cell, by_seed in cells.items():
            differences = [value - scores[baseline][cell][seed] for seed, value in by_seed.items()]
            table[mixture, *cell] = {
                "mean": fmean(by_seed.values()),
                "sd": _spread(list(by_seed.values())),
                "n_seeds": len(by_seed),
                "difference": fmean(differences),
                "difference_stderr": _scaled(_spread(differences), 1 / math.sqrt(len(differences))),
            }
    return table


def _by_task_and_metric(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, float]]:
    cells: dict[tuple[str, str], dict[int, float]] = {}
    for metric in METRICS:
        for row in rows:
            cells.setdefault((row["task"], metric), {})[row["seed"]] = row[metric]
        for seed in {row["seed"] for row in rows}:
            mean = fmean(row[metric] for row in rows if row["seed"] == seed)
            cells.setdefault((MEAN_TASK, metric), {})[seed] = mean
    return cells


def _spread(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


@given(runs_of_mixtures(), st.data())
def test_every_cell_equals_the_reference(runs: Runs, data: st.DataObject):
    baseline = data.draw(st.sampled_from(sorted(runs)))
    table = compare({mixture: pl.DataFrame(rows) for mixture, rows in runs.items()}, baseline)
    expected = reference(runs, baseline)
    assert table.height == len(expected)
    for row in table.to_dicts():
        cell = expected[row.pop("mixture"), row.pop("task"), row.pop("metric")]
        assert row.keys() == cell.keys()
        for name, value in cell.items():
            assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-6)), name


@given(runs_of_mixtures())
def test_the_baseline_differs_from_itself_by_exactly_nothing(runs: Runs):
    baseline = min(runs)
    table = compare({mixture: pl.DataFrame(rows) for mixture, rows in runs.items()}, baseline)
    own = table.filter(pl.col("mixture") == baseline)
    assert set(own["difference"]) == {0.0}
    assert set(own["difference_stderr"]) <= {0.0, None}


def test_differences_are_paired_by_seed_so_a_shift_common_to_all_seeds_has_no_error():
    rows = [{"seed": seed, "task": "arc", "acc": seed / 10, "gold_nll": float(seed)} for seed in (1, 2, 3)]
    shifted = [{**row, "acc": row["acc"] + 0.25} for row in reversed(rows)]
    table = compare({"uniform": pl.DataFrame(rows), "demo": pl.DataFrame(shifted)}, "uniform")
    accuracy = table.filter(mixture="demo", task="arc", metric="acc").to_dicts()[0]
    assert accuracy["difference"] == pytest.approx(0.25)
    assert accuracy["difference_stderr"] == pytest.approx(0, abs=1e-15)
    assert accuracy["sd"] == pytest.approx(0.1)
