"""The comparison table equals a plain-Python reference, and pairs by seed whatever the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from automixer_assets.comparison import MEAN_TASK, METRICS, REPLICATES, bootstrap_intervals, compare, macro_means
from automixer_assets.errors import AutomixerError

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
    seeds = sorted({row["seed"] for row in runs[baseline]})
    for mixture in set(runs) - {baseline}:
        fewer = data.draw(st.sets(st.sampled_from(seeds), min_size=1))
        runs[mixture] = [row for row in runs[mixture] if row["seed"] in fewer]
    table = compare({mixture: pl.DataFrame(rows) for mixture, rows in runs.items()}, baseline)
    expected = reference(runs, baseline)
    assert table.height == len(expected)
    for row in table.to_dicts():
        cell = expected[row.pop("mixture"), row.pop("task"), row.pop("metric")]
        for name in ("p_value", "p_holm", "interval_low", "interval_high"):
            row.pop(name)
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
    rows = [
        {"seed": seed, "task": "arc", "acc": seed / 10, "gold_nll": float(seed), "gold_bits_per_byte": 1.0}
        for seed in (1, 2, 3)
    ]
    shifted = [{**row, "acc": row["acc"] + 0.25} for row in reversed(rows)]
    table = compare({"uniform": pl.DataFrame(rows), "demo": pl.DataFrame(shifted)}, "uniform")
    accuracy = table.filter(mixture="demo", task="arc", metric="acc").to_dicts()[0]
    assert accuracy["difference"] == pytest.approx(0.25)
    assert accuracy["difference_stderr"] == pytest.approx(0, abs=1e-15)
    assert accuracy["sd"] == pytest.approx(0.1)


def trained(
    mixtures: Sequence[str], tasks: Sequence[str], seeds: int, n_items: int, lead: float = 0.0
) -> dict[str, Any]:
    """Results and items of mixtures that differ by chance, but for `lead`, the first one's advantage in NLL."""
    random = np.random.default_rng(7)
    items = {}
    for mixture in mixtures:
        rows = [
            {
                "seed": seed,
                "task": task,
                "item_hash": f"{item:03d}",
                "acc": float(random.integers(2)),
                "gold_nll": random.gamma(2.0) - lead * (mixture == mixtures[0]),
                "gold_bytes": int(item % 5 + 1),
            }
            for task in tasks
            for seed in range(seeds)
            for item in range(n_items)
        ]
        items[mixture] = pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1)
    means = pl.col("acc", "gold_nll").mean()
    bits = (pl.col("gold_nll").sum() / math.log(2) / pl.col("gold_bytes").sum()).alias("gold_bits_per_byte")
    runs = {name: table.group_by("seed", "task").agg(means, bits) for name, table in items.items()}
    return {"runs": runs, "items": items}


def test_p_values_are_those_of_the_paired_t_test_and_holm_corrects_for_the_mixtures():
    given_ = trained(["a", "b", "c", "uniform"], ["arc", "boolq"], seeds=5, n_items=9, lead=0.6)
    table = compare(given_["runs"], "uniform")
    for task in ("arc", "boolq"):
        values = {name: run.filter(task=task).sort("seed")["gold_nll"] for name, run in given_["runs"].items()}
        expected = {name: ttest_rel(values[name], values["uniform"]).pvalue for name in ("a", "b", "c")}
        rows = {row["mixture"]: row for row in table.filter(task=task, metric="gold_nll").to_dicts()}
        assert rows["uniform"]["p_value"] is rows["uniform"]["p_holm"] is None
        highest = 0.0
        for position, name in enumerate(sorted(expected, key=expected.__getitem__)):
            highest = max(highest, min(1.0, (3 - position) * expected[name]))
            assert rows[name]["p_value"] == pytest.approx(expected[name])
            assert rows[name]["p_holm"] == pytest.approx(highest)


def test_one_seed_has_no_p_value():
    table = compare(trained(["a", "uniform"], ["arc"], seeds=1, n_items=4)["runs"], "uniform")
    assert table["p_value"].null_count() == table.height


@pytest.mark.parametrize("more", ["seed", "task"])
def test_what_the_baseline_lacks_cannot_be_compared(more: str):
    runs = trained(["a", "uniform"], ["arc", "boolq"], seeds=3, n_items=4)["runs"]
    lacking = pl.col("seed") < 2 if more == "seed" else pl.col("task") == "arc"
    with pytest.raises(AutomixerError, match="mixture 'a' was trained with other seeds or tasks than the baseline"):
        compare({**runs, "uniform": runs["uniform"].filter(lacking)}, "uniform")


def test_intervals_of_fewer_seeds_compare_with_the_baseline_on_those_seeds():
    """The baseline's other seeds, far off, change nothing."""
    items = trained(["a", "uniform"], ["arc"], seeds=4, n_items=6)["items"]
    means = macro_means(["arc"], ())
    few = {name: table.filter(pl.col("seed") < 2) for name, table in items.items()}
    off = pl.when(pl.col("seed") < 2).then("gold_nll").otherwise(pl.col("gold_nll") + 100)
    found = bootstrap_intervals({"a": few["a"], "uniform": items["uniform"].with_columns(off)}, "uniform", means)
    assert found.equals(bootstrap_intervals(few, "uniform", means))


def test_a_second_mean_leaves_tasks_out():
    given_ = trained(["a", "uniform"], ["arc", "boolq", "piqa"], seeds=2, n_items=4)
    table = compare(given_["runs"], "uniform", items=given_["items"], set_aside=["boolq"])
    cells = {row["task"]: row for row in table.filter(mixture="a", metric="gold_nll").to_dicts()}
    assert cells["mean without boolq"]["mean"] == pytest.approx(fmean([cells["arc"]["mean"], cells["piqa"]["mean"]]))
    assert cells["mean without boolq"]["interval_low"] is not None


def test_intervals_resample_seeds_and_items_together():
    """Replicates recomputed by writing every drawn row out."""
    items = trained(["a", "uniform"], ["arc", "piqa"], seeds=3, n_items=6)["items"]
    random = np.random.default_rng(0)
    seeds = random.multinomial(3, np.full(3, 1 / 3), size=REPLICATES)
    expected = {}
    for task in ("arc", "piqa"):
        drawn = random.multinomial(6, np.full(6, 1 / 6), size=REPLICATES)
        values = {name: _cells(table.filter(task=task)) for name, table in items.items()}
        replicates = [
            _drawn_bits(values["a"], s, i) - _drawn_bits(values["uniform"], s, i)
            for s, i in zip(seeds, drawn, strict=True)
        ]
        expected[task] = np.quantile(replicates, [0.025, 0.975])
    found = bootstrap_intervals(items, "uniform", macro_means(["arc", "piqa"], ()))
    for task, interval in expected.items():
        row = found.row(by_predicate=(pl.col("task") == task) & (pl.col("metric") == "gold_bits_per_byte"), named=True)
        assert [row["interval_low"], row["interval_high"]] == pytest.approx(list(interval))


def _cells(table: pl.DataFrame) -> dict[tuple[int, int], tuple[float, int]]:
    return {(row["seed"], int(row["item_hash"])): (row["gold_nll"], row["gold_bytes"]) for row in table.to_dicts()}


def _drawn_bits(cells: dict[tuple[int, int], tuple[float, int]], seeds: np.ndarray, items: np.ndarray) -> float:
    rows = [
        cells[seed, item]
        for seed, times in enumerate(seeds)
        for _ in range(times)
        for item, copies in enumerate(items)
        for _ in range(copies)
    ]
    return sum(nll for nll, _ in rows) / math.log(2) / sum(size for _, size in rows)


def test_an_advantage_on_every_item_is_seen_and_none_is_not():
    clear = trained(["a", "uniform"], ["arc"], seeds=4, n_items=60, lead=1.0)
    none = trained(["a", "uniform"], ["arc"], seeds=4, n_items=60)
    rows = [
        compare(each["runs"], "uniform", items=each["items"]).row(
            by_predicate=(pl.col("mixture") == "a") & (pl.col("task") == MEAN_TASK) & (pl.col("metric") == "gold_nll"),
            named=True,
        )
        for each in (clear, none)
    ]
    assert rows[0]["interval_high"] < 0
    assert rows[1]["interval_low"] < 0 < rows[1]["interval_high"]
