"""Claims about presets: what a name stands for, and how many parameters it has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.presets import VOCABULARIES, parameter_table
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets.settings import Architecture, Training
from automixer_assets.settings.presets import ARCHITECTURES
from automixer_assets.settings_file import load_settings

TABLE_1 = {"25M": 25, "50M": 50, "75M": 75, "350M": 350, "500M": 500, "1.5B": 1500}


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_parameter_formula_counts_what_is_built(name: str, tied: bool, vocab_size: int) -> None:
    architecture = Architecture.model_validate({"preset": name, "tie_word_embeddings": tied})
    with torch.device("meta"):
        model = build_model(architecture, vocab_size, 2048, seed=0)
    assert architecture.parameters(vocab_size) == sum(p.numel() for p in model.parameters())
    assert name == "demo" or model.config.head_dim == 64


def test_presets_are_as_large_as_their_names() -> None:
    for name, millions in TABLE_1.items():
        assert Architecture.model_validate(name).parameters(32_000) / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_documented_table_is_the_computed_one() -> None:
    assert parameter_table() in (PROJECT_ROOT / "docs" / "training.md").read_text()


def test_the_papers_run_is_its_token_count() -> None:
    training = Training.model_validate("paper")
    assert (training.steps, training.sequence_length, training.batch_size) == (100_000, 2048, 32)
    assert training.tokens == 6_553_600_000
    settings = load_settings(PROJECT_ROOT / "configs" / "fineweb-edu-350m.yaml")
    proxy = settings.trained_proxy("proxy-350m")
    assert proxy.training == training
    assert proxy.architecture == Architecture.model_validate("350M")
    assert proxy.checkpoint_steps == list(range(5000, 100_001, 5000)), "Table 1's 5 % grid"


def test_a_name_a_mapping_and_an_override_are_the_same_settings() -> None:
    written_out = Architecture.model_validate(dict(ARCHITECTURES["75M"]))
    assert Architecture.model_validate("75M") == Architecture.model_validate({"preset": "75M"}) == written_out
    untied = Architecture.model_validate({"preset": "75M", "tie_word_embeddings": False})
    assert untied == written_out.model_copy(update={"tie_word_embeddings": False})
    assert Training.model_validate({"preset": "paper", "steps": 5000}).tokens == 5000 * 32 * 2048


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("350m", r"no architecture preset is called '350m'; did you mean '350M'\? \(there are: demo, 25M, "),
        (75, r"no architecture preset is called '75'; did you mean '75M'\?"),
        ({"preset": "1.5"}, r"called '1.5'; did you mean '1.5B'\?"),
        ({"preset": "giant"}, r"called 'giant' \(there are: demo"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(given: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Architecture.model_validate(given)
