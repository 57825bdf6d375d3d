"""The truth is only useful when the yardsticks that read it are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.microworld import write_microworld
from automixer_assets.microworld.truth import planted_auc, read_truth, teaching_share


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    folder: Path = tmp_path_factory.mktemp("world")
    write_microworld(folder, documents_per_snapshot=120, snapshots=["MW-2026-01"])
    return read_truth(folder)


def _utilities(truth: pl.DataFrame, values: np.ndarray | pl.Series) -> pl.DataFrame:
    return truth.select("snapshot", "doc_id").with_columns(pl.Series("utility", values))


def test_auc_agrees_with_counting_every_pair_ties_included(truth: pl.DataFrame) -> None:
    values = np.random.default_rng(0).integers(0, 7, truth.height).astype(float)
    table = planted_auc(truth, _utilities(truth, values).sample(fraction=1.0, shuffle=True, seed=1))
    teaches = (truth["kind"] == "skill").to_numpy()
    skills = truth["skill"].to_numpy()
    for task, auc, n_planted, n_other in table.iter_rows():
        planted = values[teaches & ((skills == task.removeprefix("microworld_")) | (task == "overall"))]
        pairs = [1.0 if one > two else 0.5 if one == two else 0.0 for one in planted for two in values[~teaches]]
        assert auc == pytest.approx(np.mean(pairs), abs=1e-12)
        assert (n_planted, n_other) == (len(planted), (~teaches).sum())


def test_a_perfect_ranking_scores_one_and_its_negation_zero(truth: pl.DataFrame) -> None:
    perfect = (truth["kind"] == "skill").cast(pl.Float64)
    assert set(planted_auc(truth, _utilities(truth, perfect))["auc"]) == {1.0}
    assert set(planted_auc(truth, _utilities(truth, -perfect))["auc"]) == {0.0}


def test_auc_of_a_skill_that_was_not_scored_is_null(truth: pl.DataFrame) -> None:
    part = truth.filter(pl.col("skill").is_null() | (pl.col("skill") == "piqa"))
    table = planted_auc(truth, _utilities(part, np.arange(part.height, dtype=float)))
    assert table.filter(pl.col("auc").is_null())["task"].len() == 7


def test_auc_refuses_undefined_scores_and_unknown_documents(truth: pl.DataFrame) -> None:
    utilities = _utilities(truth, np.zeros(truth.height))
    with pytest.raises(AutomixerError, match="null or NaN"):
        planted_auc(truth, utilities.with_columns(utility=pl.lit(float("nan"))))
    with pytest.raises(AutomixerError, match="not in the micro-world's truth"):
        planted_auc(truth, utilities.with_columns(snapshot=pl.lit("MW-2026-09")))
    with pytest.raises(AutomixerError, match="lack the columns"):
        planted_auc(truth, utilities, score="joint_utility")


def test_teaching_share_counts_documents_and_tokens_and_repeats(truth: pl.DataFrame) -> None:
    teaching = truth.filter(pl.col("kind") == "skill")["doc_id"][0]
    idle = truth.filter(pl.col("kind") == "spam")["doc_id"][0]
    share = teaching_share(truth, [teaching, idle, teaching, idle], [30, 10, 30, 10])
    assert (share.documents, share.tokens) == (0.5, 0.75)
    assert teaching_share(truth, [teaching]).tokens is None
    with pytest.raises(AutomixerError, match="not in the micro-world's truth"):
        teaching_share(truth, ["<urn:uuid:none>"])
