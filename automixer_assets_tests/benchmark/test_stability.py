"""Claims about how sure a best step is, and about Table 1."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from automixer_assets.benchmark.progress_ratio import PROGRESS_RATIOS_SCHEMA, EvaluatedProxy, progress_ratios
from automixer_assets.benchmark.runner import BENCHMARK_SCHEMA, ITEMS_SCHEMA
from automixer_assets.benchmark.selection import checkpoint_key, select_checkpoints
from automixer_assets.benchmark.stability import selection_probability
from automixer_assets.benchmark.trajectories import trajectories_of
from automixer_assets.settings import Recipe

Answers = dict[str, dict[int, Sequence[float]]]
"""task -> step -> one value per item."""


def tables(answers: Answers, *, metric: str = "acc", total: int | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A benchmark table and its items; accuracies are means of the items, as lm-eval's are."""
    last = total or max(step for steps in answers.values() for step in steps)
    rows, items = [], []
    for task, steps in answers.items():
        for step, values in steps.items():
            mean, n = float(np.mean(values)), len(values)
            own = {"acc": 0.9, "acc_stderr": 0.01, "gold_nll": 1.0, metric: mean}
            row = dict.fromkeys(BENCHMARK_SCHEMA, None) | {"checkpoint": checkpoint_key("p", step), "step": step}
            rows.append({**row, "progress": step / last, "task": task, "chance": 0.25, "n_items": n, **own})
            items += [
                {**dict.fromkeys(ITEMS_SCHEMA, None), "step": step, "task": task, "doc_index": i, metric: float(value)}
                for i, value in enumerate(values)
            ]
    return pl.DataFrame(rows, schema=BENCHMARK_SCHEMA), pl.DataFrame(items, schema=ITEMS_SCHEMA)


def probability(answers: Answers, metric: str = "acc") -> float:
    benchmark, items = tables(answers, metric=metric)
    (trajectory,) = trajectories_of(benchmark, metric, "none").tasks  # pyright: ignore[reportArgumentType]
    return selection_probability(trajectory, items.sample(fraction=1, shuffle=True, seed=1))


def test_a_step_that_answers_every_item_better_always_wins() -> None:
    assert probability({"a": {10: [0] * 20, 20: [1] * 20, 30: [0] * 20}}) == 1.0
    assert probability({"a": {10: [2.0, 3.0], 20: [1.0, 2.5]}}, "gold_nll") == 1.0


def test_equal_answers_are_a_tie_for_the_earliest() -> None:
    assert probability({"a": {10: [1, 0, 1], 20: [1, 0, 1]}}) == 1.0


def test_it_is_the_exact_probability_where_that_can_be_counted() -> None:
    """Ten items; the best step is ahead on three and behind on one: it loses where it draws fewer of the three."""
    best, other = [1, 1, 1, 0, *[1] * 6], [0, 0, 0, 1, *[1] * 6]
    generator, wins, draws = random.Random(7), 0, 200_000
    for _ in range(draws):
        kinds = generator.choices(["ahead", "behind", "same"], weights=[3, 1, 6], k=10)
        wins += kinds.count("ahead") >= kinds.count("behind")  # the best step is the earlier one: it wins ties
    assert probability({"a": {10: best, 20: other}}) == pytest.approx(wins / draws, abs=0.03)
    later = probability({"a": {10: other, 20: best}})
    assert later < probability({"a": {10: best, 20: other}}), "the later step loses ties"


def test_steps_that_share_their_errors_are_surer_than_independent_ones() -> None:
    """Both steps are at 60 %, one ahead by one item; paired, that one item decides."""
    shared = [1] * 60 + [0] * 40
    ahead = [*shared[:-1], 1]
    mixed = list(random.Random(3).sample(shared, len(shared)))
    assert probability({"a": {10: ahead, 20: shared}}) == 1.0
    assert 0.4 < probability({"a": {10: ahead, 20: mixed}}) < 0.75


def test_the_same_table_gives_the_same_number_and_selection_carries_it() -> None:
    generator = random.Random(5)
    answers: Answers = {
        task: {step: [generator.random() < 0.6 for _ in range(30)] for step in (0, 10, 20, 30)} for task in "ab"
    }
    benchmark, items = tables(answers)
    recipe = Recipe.model_validate({"proxy": "p", "chance_fallback": "none"})
    first = select_checkpoints(benchmark, recipe, items=items).assignments
    again = select_checkpoints(benchmark.reverse(), recipe, items=items.reverse()).assignments
    assert first.equals(again)
    assert all(0 < value < 1 for value in first["selection_probability"])
    assert select_checkpoints(benchmark, recipe).assignments["selection_probability"].null_count() == 2


def test_table_one_is_in_percent_of_the_whole_run_by_size_of_proxy() -> None:
    small = tables({"a": {10: [1, 1], 20: [0, 1]}, "b": {10: [0, 0], 20: [1, 0]}}, total=40)
    large = tables({"a": {50: [0, 1], 100: [1, 1]}, "b": {50: [1, 1], 100: [0, 1]}})
    proxies = [EvaluatedProxy("large", 2_000_000, *large), EvaluatedProxy("small", 1000, *small)]
    ratios = progress_ratios(proxies, [("acc", "none"), ("acc", "none")])
    assert ratios.schema == pl.Schema(PROGRESS_RATIOS_SCHEMA)
    assert ratios.select("proxy", "task", "progress_ratio", "best_step", "total_steps", "n_checkpoints").rows() == [
        ("small", "a", 25.0, 10, 40, 2),
        ("small", "b", 50.0, 20, 40, 2),
        ("large", "a", 100.0, 100, 100, 2),
        ("large", "b", 50.0, 50, 100, 2),
    ]


def test_every_rule_has_its_own_rows() -> None:
    benchmark, items = tables({"a": {10: [0.1, 0.2], 20: [0.3, 0.1]}}, metric="gold_nll")
    benchmark = benchmark.with_columns(pl.Series("acc", [0.2, 0.26]), acc_stderr=pl.lit(0.1))
    items = items.with_columns(pl.Series("acc", [0.2, 0.2, 0.26, 0.26]))
    ratios = progress_ratios(
        [EvaluatedProxy("p", 10, benchmark, items)], [("gold_nll", "gold_nll"), ("acc", "none"), ("acc", "gold_nll")]
    )
    assert ratios.select("selected_by", "metric", "fallback", "best_step").rows() == [
        ("acc", "gold_nll", "gold_nll", 10),
        ("acc (no guard)", "acc", None, 20),
        ("gold_nll", "gold_nll", None, 10),
    ]
