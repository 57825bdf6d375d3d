"""Claims about the quality benchmark, in miniature: what it computes is what it says, and it can be killed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr, ttest_1samp

from benchmarks.influence_quality import worlds
from benchmarks.influence_quality.__main__ import main
from benchmarks.influence_quality.estimates import clean_over_noise, estimate, rank_correlations
from benchmarks.influence_quality.lexical import SATURATION, bm25, ngram_overlap
from benchmarks.influence_quality.one_step import read_loss_changes, write_loss_changes
from benchmarks.influence_quality.report import PAIRS, Finished, report
from benchmarks.influence_quality.retraining import (
    FIRST,
    document_losses,
    halves,
    losses_path,
    retrain,
    task_losses,
    train,
)
from benchmarks.influence_quality.scoring import all_utilities, read_utilities, write_utilities
from benchmarks.influence_quality.settings import StudySettings, quick

SETTINGS = quick(StudySettings(world="micro", seed=0))


@pytest.fixture(scope="module")
def world() -> worlds.World:
    return worlds.build(SETTINGS)


@pytest.fixture(scope="module")
def model(world: worlds.World):
    return train(SETTINGS, world, np.arange(SETTINGS.documents))


def test_rank_correlation_is_spearmans_also_with_ties() -> None:
    generator = np.random.default_rng(0)
    predicted, measured = generator.integers(0, 5, (2, 3, 20)).astype(float)
    expected = [spearmanr(one, other)[0] for one, other in zip(predicted, measured, strict=True)]
    assert rank_correlations(predicted, measured) == pytest.approx(expected)
    assert rank_correlations(np.ones(5), np.arange(5.0)) == 0


def test_a_better_score_is_told_from_a_worse_one_and_equal_ones_are_not() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(2, 4, 60))
    close, far = (truth + scale * generator.normal(size=truth.shape) for scale in (0.3, 3.0))
    good, bad = (estimate(list(zip(predicted, truth, strict=True))) for predicted in (close, far))
    assert good.minus(bad).interval[0] > 0
    assert good.minus(good).interval == (0, 0)
    assert good.interval[0] < good.value < good.interval[1]
    assert good.interval_over_seeds == pytest.approx(ttest_1samp(good.per_seed, 0).confidence_interval())
    assert good.value == pytest.approx(good.per_seed.mean())


def test_bm25_is_the_textbook_formula_over_pairs_of_words() -> None:
    documents = ["the cat sat on the cat sat", "the dog sat", "on the mat the cat", "nothing of it"]
    tasks = [["the cat sat", "the cat"], ["the dog", "sat on"]]

    def pairs(text: str) -> Counter[tuple[str, str]]:
        words = text.split()
        return Counter(pairwise(words))

    def slow(document: str, items: list[str]) -> float:
        query = sum((pairs(item) for item in items), Counter())
        total = 0.0
        for pair, count in query.items():
            containing = sum(pair in pairs(other) for other in documents)
            if not containing:
                continue
            occurs = pairs(document)[pair]
            inverse = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            total += math.log(1 + count) * inverse * occurs * (SATURATION + 1) / (occurs + SATURATION)
        return total

    expected = [[slow(document, items) for items in tasks] for document in documents]
    assert bm25(documents, tasks) == pytest.approx(np.array(expected))


def test_ngram_overlap_is_a_share_and_spans_no_two_items() -> None:
    overlap = ngram_overlap(["red blue", "green green"], [["red", "blue"], ["red blue"]])
    assert overlap == pytest.approx(np.array([[2 / 3, 1], [0, 0]]))


def test_halves_are_exact_and_differ() -> None:
    chosen = halves(SETTINGS)
    assert (chosen.sum(axis=1) == SETTINGS.documents // 2).all()
    assert len({row.tobytes() for row in chosen}) == SETTINGS.halves


def test_a_batch_of_texts_gives_each_its_own_mean_loss(world: worlds.World, model) -> None:
    texts = sorted(world.documents, key=lambda text: len(text.tokens))[:: SETTINGS.documents // 4]
    texts.append(worlds.Text("", world.documents[0].tokens[:3]))
    with torch.no_grad():
        ids = [torch.tensor([text.tokens]) for text in texts]
        alone = [model(input_ids=one, labels=one).loss.item() for one in ids]
        assert document_losses(model, texts).tolist() == pytest.approx(alone, rel=1e-5)


def test_a_model_sees_its_own_documents_only(world: worlds.World, model) -> None:
    rows = np.flatnonzero(halves(SETTINGS)[0])
    others = set(range(SETTINGS.documents)) - set(rows.tolist())
    blank = worlds.Text("", [0, 0, 0])
    emptied = [blank if row in others else text for row, text in enumerate(world.documents)]
    changed = replace(world, documents=emptied)
    losses = task_losses(train(SETTINGS, world, rows), world)
    assert task_losses(train(SETTINGS, changed, rows), world) == losses
    assert task_losses(model, world) != losses


def test_a_killed_study_goes_on_with_the_models_it_lacks(world: worlds.World, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        retrain(SETTINGS, world, tmp_path, kill)
    first = losses_path(tmp_path, FIRST, 0)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "retrained").iterdir()}
    assert len(before) == 2
    expected = first.read_bytes()
    counted: list[tuple[int, int]] = []
    retrain(SETTINGS, world, tmp_path, lambda done, total: counted.append((done, total)))
    assert counted[-1] == (9, 9)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "retrained").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 9
    first.unlink()
    retrain(SETTINGS, world, tmp_path, lambda done, total: None)
    assert first.read_bytes() == expected


def test_utilities_survive_the_disk(world: worlds.World, model, tmp_path: Path) -> None:
    utilities = all_utilities(SETTINGS, world, [model, model])
    assert all(values.shape == (SETTINGS.documents, len(world.tasks)) for values in utilities.values())
    assert {method for pair in PAIRS for method in pair} - {f"{m}, 4 checkpoints" for m in ("DataInf", "KFAC")} <= set(
        utilities
    )
    write_utilities(tmp_path / "scores.parquet", utilities, world)
    again = read_utilities(tmp_path / "scores.parquet", world)
    assert list(again) == list(utilities)
    for method, values in utilities.items():
        np.testing.assert_array_equal(again[method], values.astype(float))


def test_a_score_that_knows_the_effects_has_the_highest_lds(world: worlds.World, tmp_path: Path) -> None:
    effects = np.random.default_rng(2).normal(size=(SETTINGS.documents, len(world.tasks)))
    for half, kept in enumerate(halves(SETTINGS)):
        losses = (5 - effects[kept].sum(axis=0)).tolist()
        path = losses_path(tmp_path, FIRST, half)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({task.name: loss for task, loss in zip(world.tasks, losses, strict=True)}))
    study = Finished(SETTINGS, world, tmp_path, {"truth": effects, "opposite": -effects})
    group = world.tasks[0].group
    assert estimate([study.halves("truth", group)]).value == pytest.approx(1)
    assert estimate([study.halves("opposite", group)]).value == pytest.approx(-1)


def test_one_step_is_taken_back(world: worlds.World, model, tmp_path: Path) -> None:
    before = task_losses(model, world)
    write_loss_changes(tmp_path / "one_step.parquet", SETTINGS, world, model)
    changes = read_loss_changes(tmp_path / "one_step.parquet")
    assert task_losses(model, world) == before
    assert changes.shape == (SETTINGS.stepped_documents, len(world.tasks))
    assert np.abs(changes).min() > 0


def test_noise_auc_compares_clean_with_one_kind_of_noise() -> None:
    kinds = ["good", "good", "bad", "bad", "other"]
    assert clean_over_noise(np.array([3.0, 2, 1, 0, 9]), kinds, ["good"], "bad") == 1
    assert clean_over_noise(np.array([3.0, 2, 1, 0, 9]), kinds, ["good"], "other") == 0


def test_the_command_runs_reports_and_refuses_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--world", "micro", "--seeds", "0", "--out", str(tmp_path)]
    assert main([*command, "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 seeds" in printed
    assert "| BM25 + KFAC − BM25 |" in printed
    assert "one seed" in printed
    assert "nan" not in printed
    assert main([*command, "--quick", "--report"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]
    assert main(command) == 1
    assert "records documents=48, not 480" in capsys.readouterr().err


def test_nothing_is_reported_before_a_study_is_complete(tmp_path: Path) -> None:
    assert report([SETTINGS], tmp_path) == "No study is complete yet."


def test_the_real_world_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AUTOMIXER_TEST_DATA", raising=False)
    assert main(["--world", "real", "--quick", "--seeds", "0", "--out", str(tmp_path)]) == 1
    assert "AUTOMIXER_TEST_DATA" in capsys.readouterr().err


@pytest.mark.skipif("AUTOMIXER_TEST_DATA" not in os.environ, reason="AUTOMIXER_TEST_DATA names no folder of real text")
def test_the_real_world_keeps_held_out_text_apart_and_corrupts_a_share() -> None:
    real = worlds.build(quick(StudySettings(world="real", seed=0)))
    documents = {text.text for text in real.documents}
    held_out = [item.text for task in real.tasks if task.group == "held-out text" for item in task.items]
    assert len(held_out) == len(worlds.SOURCES) * 4
    assert not documents & set(held_out)
    assert Counter(real.kinds)["shuffled"] == round(worlds.SHUFFLED_SHARE * 48)
    assert Counter(real.kinds)["random words"] == round(worlds.RANDOM_WORDS_SHARE * 48)
    assert len([task for task in real.tasks if task.group == "benchmark items"]) == 8
