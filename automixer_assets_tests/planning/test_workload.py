"""How large things are, from tables, footers and the command line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.planning.sizes import footer_size, given_size
from automixer_assets.planning.workload import SnapshotSize, most_checkpoints, task_size, web_texts
from automixer_assets.settings import Recipe


@pytest.mark.parametrize(
    ("text", "tokens"), [("a=1.3T", 1.3e12), ("a=12B", 12e9), ("a=7M", 7e6), ("a=5k", 5e3), ("a=42", 42.0)]
)
def test_sizes_are_given_in_the_units_people_use(text: str, tokens: float):
    size = given_size(text, 4.0, 100.0)
    assert (size.name, size.tokens, size.text_bytes, size.documents) == ("a", tokens, 4 * tokens, tokens / 100)


@pytest.mark.parametrize("text", ["a", "=3", "a=", "a=x", "a=-3", "a=3Q", "a=0", "a=nan"])
def test_a_size_that_is_none_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="SNAPSHOT=TOKENS"):
        given_size(text, 4.0, 100.0)


def test_footers_tell_documents_and_text_before_compression(tmp_path: Path):
    path = tmp_path / "part.parquet"
    pl.DataFrame({"text": [f"{i:0500d}" for i in range(1000)], "id": range(1000)}).write_parquet(
        path, use_pyarrow=True, pyarrow_options={"use_dictionary": False}
    )
    size = footer_size("a", [path], 4.0)
    assert size.documents == 1000
    assert size.text_bytes == pytest.approx(500_000, rel=0.05)


def test_files_that_are_no_snapshot_are_named(tmp_path: Path):
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(AutomixerError, match=r"bad\.parquet"):
        footer_size("a", [tmp_path / "bad.parquet"], 4.0)
    pl.DataFrame({"words": ["a"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(AutomixerError, match="no column `text`"):
        footer_size("a", [tmp_path / "other.parquet"], 4.0)


@pytest.mark.parametrize("context", [64, 2048])
def test_windows_hold_every_predicted_token_once(context: int):
    size = SnapshotSize("a", documents=1000, tokens=400_000, text_bytes=0, how="given")
    texts = web_texts(size, context)
    assert texts.predicted == pytest.approx(400_000 - 1000, rel=0.01)
    assert texts.windows >= 1000
    assert texts.squares <= (context - 1) * texts.inputs * (1 + 1e-9)


def test_an_empty_snapshot_has_no_windows():
    assert web_texts(SnapshotSize("a", 0, 0, 0, "given"), 64).inputs == 0


def test_options_share_a_question_where_that_saves_a_quarter():
    long_question = task_size("arc_easy", [101], [5], gradient=10, selection=3, final=2)
    assert long_question.item.inputs == 100 - 5 + 4 * 5
    short_question = task_size("arc_easy", [21], [18], gradient=10, selection=3, final=2)
    assert short_question.item.inputs == 4 * 20
    assert (long_question.gradient.inputs, long_question.answers.predicted) == (1000, 50)


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"profile": "paper"}, 8),
        ({"profile": "robust"}, 1),
        ({"profile": "robust", "early_checkpoint": True}, 2),
        ({"selection": "best_per_task", "early_checkpoint": True}, 9),
        ({"selection": "last"}, 1),
        ({"selection": "at:.25"}, 1),
        ({"selection": "all"}, 20),
        ({"selection": "evenly:30"}, 20),
        ({"selection": "best_per_task", "early_checkpoint": True, "max_checkpoints": 3}, 3),
    ],
)
def test_the_most_checkpoints_that_a_recipe_selects(options: dict[str, object], most: int):
    assert most_checkpoints(Recipe.model_validate({"proxy": "p", **options}), kept=20, tasks=8) == most


def test_a_strategy_without_checkpoints_selects_none():
    assert most_checkpoints(Recipe.model_validate({"scorer": "uniform"}), kept=20, tasks=8) == 0
