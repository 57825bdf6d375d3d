"""Targets are trained a seed at a time: one more seed is one more run; one that fails is said, not averaged away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from automixer_assets.assets import target_runs
from automixer_assets.errors import AutomixerError
from automixer_assets_tests.world import World

SEEDS = [1, 2, 3]


def trained_seeds(monkeypatch: pytest.MonkeyPatch, failing: int | None = None) -> list[int]:
    """The seeds that are trained from now on, in order; `failing` diverges."""
    trained: list[int] = []
    train: Callable[..., None] = target_runs._train_target

    def train_and_note(scope: Any, targets: Any, seed: int, *rest: Any) -> None:
        trained.append(seed)
        if seed == failing:
            raise AutomixerError("loss nan at step 3")
        train(scope, targets, seed, *rest)

    monkeypatch.setattr(target_runs, "_train_target", train_and_note)
    return trained


def test_a_seed_more_is_trained_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.table("target_runs", "demo", "benchmark.parquet")
    assert sorted(set(before["seed"])) == SEEDS
    trained = trained_seeds(monkeypatch)
    assert world.run("target_runs", overrides={"targets.seeds": [*SEEDS, 9]}) == [
        "target_runs[demo]",
        "target_runs[uniform]",
    ]
    assert trained == [9, 9]
    after = world.table("target_runs", "demo", "benchmark.parquet")
    assert after.filter(pl.col("seed").is_in(SEEDS)).equals(before)
    assert not after.filter(pl.col("seed") == 9).is_empty()


def test_a_mixture_with_fewer_seeds_is_paired_with_the_baselines_first_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trained_seeds(monkeypatch)
    ran = world.run("key:target_runs or key:comparison_table", overrides={"targets.fewer_seeds": {"demo": 2}})
    assert ran == ["target_runs[demo]", "comparison_table"], "the baseline's stay as they are"
    assert trained == []
    comparison = world.table("comparison_table", None, "comparison.parquet")
    assert dict(comparison.select("mixture", "n_seeds").unique().iter_rows()) == {"demo": 2, "uniform": 3}


def test_a_seed_that_fails_is_named_and_the_others_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = {"targets.seeds": [*SEEDS, 8, 9]}
    trained_seeds(monkeypatch, failing=8)
    with pytest.raises(AutomixerError, match=r"target_runs\[demo\]: 1 of 5 seeds failed.*seed 8: loss nan at step 3"):
        world.run("target_runs", "demo", overrides=seeds)
    assert sorted(set(world.table("target_runs", "demo", "benchmark.parquet")["seed"])) == SEEDS
    monkeypatch.undo()
    trained = trained_seeds(monkeypatch)
    world.run("target_runs", "demo", overrides=seeds)
    assert trained == [8], "seed 9 was finished although 8 failed"


@pytest.mark.parametrize(
    ("fewer", "said"),
    [
        ({"demo": 4}, "fewer_seeds.demo is 4: there are 3 seeds"),
        ({"demo": 0}, "fewer_seeds.demo is 0"),
        ({"uniform": 1}, "differences to the baseline need its result for every seed"),
        ({"dmo": 1}, "targets.fewer_seeds"),
    ],
)
def test_impossible_numbers_of_seeds_are_refused(world: World, fewer: dict[str, int], said: str) -> None:
    with pytest.raises(AutomixerError, match=said):
        world.run("target_runs", overrides={"targets.fewer_seeds": fewer, "targets.mixtures": ["demo", "uniform"]})
