"""Intervals over validation items: the algebra against recomputation, and how often they cover the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.mixers.influence_density import InfluenceDensity
from automixer_assets.mixture.constant_weights import constant_weights
from automixer_assets.mixture.item_uncertainty import CheckpointItems, ItemContributions, density_shifts
from automixer_assets.mixture.uncertainty import BucketSums, weight_intervals

GROUPS = ("a", "b", "c")


def flat_sums(densities: np.ndarray, groups: tuple[str, ...] = GROUPS) -> BucketSums:
    """A corpus of equal documents, so that resampling them changes nothing: one document of one token per bucket."""
    ones = np.ones((len(groups), 4))
    return BucketSums(groups, ones, ones, ones * densities[:, None], ones, lowest_total=0.0, highest_total=2.0)


def without_normalisation(tasks: dict[str, np.ndarray], alpha: float = 1.0, name: str = "k") -> CheckpointItems:
    """Tasks of [items, groups], at a checkpoint whose utilities are as they are."""
    groups = next(iter(tasks.values())).shape[1]
    tables = {task: np.hstack([table, np.zeros((len(table), 2))]) for task, table in tasks.items()}
    return CheckpointItems(name, alpha, 1.0, np.zeros(groups), tables)


def of_items(random: np.random.Generator, n: int, truth: np.ndarray, spread: float) -> np.ndarray:
    """Items of a population whose mean is `truth`, [n, groups]: skewed, and correlated among groups as scores are."""
    common = random.gamma(2.0, spread, (n, 1)) - 2 * spread
    return truth * (1 + common) + random.normal(0, spread, (n, len(truth)))


def test_the_interval_covers_the_weights_of_all_items_as_often_as_it_says() -> None:
    """Two tasks at two checkpoints, 60 and 40 items drawn from a population: 150 studies, each with its interval."""
    truth, random = np.array([1.0, 1.5, 2.0]), np.random.default_rng(0)
    weights = truth / truth.sum()
    covered, studies = np.zeros(3), 150
    for study in range(studies):
        tasks = {"x": of_items(random, 60, truth, 0.3), "y": of_items(random, 40, truth, 0.5)}
        later = {task: table + random.normal(0, 0.2, table.shape) for task, table in tasks.items()}
        checkpoints = (without_normalisation(tasks, 0.3, "k"), without_normalisation(later, 0.7, "l"))
        of_tasks = [[table.mean(axis=0) for table in drawn.values()] for drawn in (tasks, later)]
        density = 0.3 * np.mean(of_tasks[0], axis=0) + 0.7 * np.mean(of_tasks[1], axis=0)
        shifts = density_shifts(ItemContributions(GROUPS, checkpoints), 200, seed=study)
        intervals = weight_intervals(flat_sums(density), InfluenceDensity(), shifts=shifts, replicates=200)
        covered += [each.low <= w <= each.high for each, w in zip(intervals, weights, strict=True)]  # pyright: ignore
    assert (covered / studies > 0.88).all(), covered / studies
    assert (covered / studies < 0.995).all(), covered / studies


def test_a_replicate_is_the_density_of_the_drawn_items() -> None:
    """One item of two gets drawn twice, once or never, so every shift is one of three, recomputed by hand."""
    table = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, -1.0]])
    contributions = ItemContributions(GROUPS, (without_normalisation({"x": table}, 0.25),))
    shifts = density_shifts(contributions, 300)
    mean = table.mean(axis=0)
    expected = {tuple(0.25 * (item - mean)) for item in (table[0], table[1], mean)}
    assert {tuple(row) for row in shifts.round(12)} == {tuple(np.round(row, 12)) for row in expected}


def test_every_checkpoint_sees_the_same_draw_and_tasks_count_alike() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(5, 3)), random.normal(size=(50, 3))
    opposite = ItemContributions(
        GROUPS, (without_normalisation({"x": x, "y": y}, 0.5, "k"), without_normalisation({"x": -x, "y": -y}, 0.5, "l"))
    )
    assert density_shifts(opposite, 50) == pytest.approx(0.0, abs=1e-12)
    alone = density_shifts(ItemContributions(GROUPS, (without_normalisation({"x": x}),)), 4000)
    both = density_shifts(ItemContributions(GROUPS, (without_normalisation({"x": x, "y": 0 * y}),)), 4000)
    assert both.std(axis=0) == pytest.approx(alone.std(axis=0) / 2, rel=0.05), "a task counts by tasks, not by items"
    assert alone.std(axis=0) == pytest.approx(x.std(axis=0) / np.sqrt(5), rel=0.05)


def test_one_item_per_task_and_one_group_leave_nothing_to_vary() -> None:
    single = ItemContributions(GROUPS, (without_normalisation({"x": np.array([[1.0, 2.0, 3.0]])}),))
    assert not density_shifts(single, 20).any()
    group = ItemContributions(("a",), (without_normalisation({"x": np.random.default_rng(2).normal(2, 1, (9, 1))}),))
    shifts = density_shifts(group, 200)
    assert shifts.std() > 0
    sums = flat_sums(np.array([20.0]), ("a",))
    (interval,) = weight_intervals(sums, InfluenceDensity(), shifts=shifts, replicates=200)
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_seeds_decide_and_documents_can_be_left_alone() -> None:
    items = np.random.default_rng(3).normal(1, 0.5, (30, 3))
    contributions = ItemContributions(GROUPS, (without_normalisation({"x": items}),))
    first, again, other = (density_shifts(contributions, 50, seed=seed) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()
    uneven = BucketSums(
        GROUPS, np.ones((3, 4)), np.ones((3, 4)), np.arange(12.0).reshape(3, 4) + 1, np.ones((3, 4)), 0.0, 2.0
    )
    fixed = weight_intervals(uneven, InfluenceDensity(), documents=False, replicates=50)
    assert all(each.low == each.high for each in fixed)
    both = weight_intervals(uneven, InfluenceDensity(), shifts=first, replicates=50)
    documents = weight_intervals(uneven, InfluenceDensity(), replicates=50)
    assert both != documents


def test_replicates_without_weights_are_counted_and_a_scale_at_or_below_zero_is_one() -> None:
    random = np.random.default_rng(4)
    negative = density_shifts(
        ItemContributions(GROUPS, (without_normalisation({"x": random.normal(0, 5, (4, 3))}),)), 100
    )
    intervals = weight_intervals(flat_sums(np.ones(3)), InfluenceDensity(), shifts=negative, replicates=100)
    assert all(each.low is None and 0 < each.n_undefined < 100 for each in intervals)
    table = np.hstack([random.normal(0, 1, (4, 4)), random.normal(0, 5, (4, 1))])
    scaled = CheckpointItems("k", 1.0, 1.0, np.ones(3), {"x": table})
    shifts = density_shifts(ItemContributions(GROUPS, (scaled,)), 200)
    assert 0 < np.isnan(shifts).all(axis=1).sum() < 200
    undefined = weight_intervals(flat_sums(np.full(3, 9.0)), InfluenceDensity(), shifts=shifts, replicates=200)
    assert undefined[0].n_undefined >= np.isnan(shifts).all(axis=1).sum()


def test_normalised_shifts_are_those_of_normalising_again() -> None:
    """Documents and items of two traits each, 200 reference documents; `z` recomputed with the drawn items."""
    random = np.random.default_rng(5)
    items = np.array([[1.0], [0.3]]) + random.normal(0, 0.5, (2, 40))
    of_reference, of_groups = random.normal(1, 1, (200, 2)) @ items, random.normal(2, 1, (3, 2)) @ items
    utilities = of_reference.mean(axis=1)
    centre, scale = constant_weights("z", utilities)
    table = np.column_stack([of_groups.T, of_reference.T @ centre, of_reference.T @ scale])  # [items, groups + 2]
    y = (of_groups.mean(axis=1) - utilities.mean()) / utilities.std()
    checkpoint = CheckpointItems("k", 1.0, float(utilities.std()), y, {"x": table})
    shifts = density_shifts(ItemContributions(GROUPS, (checkpoint,)), 300, seed=6)
    drawn = np.random.default_rng(6).multinomial(40, np.full(40, 1 / 40), size=300) / 40
    again = of_reference @ drawn.T  # [documents, replicates]
    expected = ((of_groups @ drawn.T - again.mean(axis=0)) / again.std(axis=0)).T - y
    assert np.corrcoef(shifts[:, 0], expected[:, 0])[0, 1] > 0.85
    held = ItemContributions(GROUPS, (without_normalisation({"x": of_groups.T / utilities.std()}),))
    error, error_if_held = (np.abs(s - expected).mean() for s in (shifts, density_shifts(held, 300, seed=6)))
    assert error < 0.5 * error_if_held, "constants that move with the items are closer than constants held fixed"


@pytest.mark.parametrize(("method", "tolerance"), [("z", 1e-4), ("median_mad", 0.15)])
def test_constants_move_as_their_weights_say(method: str, tolerance: float) -> None:
    """A small smooth change of the utilities: exact to first order for `z`, a local mean for quantiles."""
    random = np.random.default_rng(8)
    utilities = random.gamma(3.0, 1.0, 20_001)
    change = 1e-4 * (1.0 + utilities**1.5)
    centre, scale = constant_weights(method, utilities)

    def constants(values: np.ndarray) -> tuple[float, float]:
        if method == "z":
            return float(values.mean()), float(values.std())
        median = float(np.median(values))
        return median, float(np.median(np.abs(values - median)))

    before, after = constants(utilities), constants(utilities + change)
    assert centre @ change == pytest.approx(after[0] - before[0], rel=tolerance)
    assert scale @ change == pytest.approx(after[1] - before[1], rel=tolerance)


@pytest.mark.parametrize("method", ["z", "median_mad"])
def test_weights_of_constants_shift_with_all_scores_and_stretch_with_them(method: str) -> None:
    utilities = np.random.default_rng(9).normal(3, 2, 501)
    centre, scale = constant_weights(method, utilities)
    assert centre.sum() == pytest.approx(1)
    assert scale.sum() == pytest.approx(0, abs=1e-12), "adding the same to every score leaves the scale"
    tables = pl.DataFrame({"utility": utilities})
    mad = (tables["utility"] - tables["utility"].median()).abs().median()  # pyright: ignore
    expected = {"z": tables["utility"].std(ddof=0), "median_mad": mad}[method]
    assert scale @ utilities == pytest.approx(expected, rel=0.05), "a scale is homogeneous of degree one"


def test_ranks_are_refused_by_name() -> None:
    with pytest.raises(AutomixerError, match="not known under `normalisation: rank`: set `uncertainty: documents`"):
        constant_weights("rank", np.arange(5.0))
