"""Constants are read back as they were written, by hand too, and refused where they cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.planning.constants import load_constants, save_constants
from automixer_assets.planning.flops import Shape
from automixer_assets.planning.hardware import on_accelerator
from automixer_assets.settings import Architecture
from automixer_assets_tests.planning.machine import round_constants, speed_at

SMALL = Shape.of(Architecture.model_validate("25M"), 32_000)
LARGE = Shape.of(Architecture.model_validate("1.5B"), 32_000)


def test_what_is_saved_is_loaded(tmp_path: Path):
    save_constants(round_constants(), tmp_path / "constants.json")
    assert load_constants(tmp_path / "constants.json") == round_constants()


def test_a_user_may_write_them_as_yaml(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(round_constants().model_dump()))
    assert load_constants(path) == round_constants()


def test_a_missing_file_names_the_remedy(tmp_path: Path):
    with pytest.raises(AutomixerError, match="automixer calibrate"):
        load_constants(tmp_path / "constants.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"passes": []}, "passes"),
        ({"free_share": -1}, "free_share"),
        ({"speed": 3}, "speed"),
    ],
)
def test_an_unusable_file_is_refused_by_name(tmp_path: Path, change: dict[str, object], message: str):
    path = tmp_path / "constants.json"
    path.write_text(json.dumps({**round_constants().model_dump(), **change}))
    with pytest.raises(AutomixerError, match=message):
        load_constants(path)


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "constants.json"
    path.write_text("{")
    with pytest.raises(AutomixerError, match="cannot be read"):
        load_constants(path)


def test_the_nearest_shape_gives_the_speed():
    constants = round_constants(passes=[speed_at(SMALL, "scoring", 1.0), speed_at(LARGE, "scoring", 2.0)])
    wanted = Shape.of(Architecture.model_validate("500M"), 32_000)
    assert constants.pass_speed("scoring", wanted).flops_per_second == 2.0
    assert constants.pass_speed("scoring", SMALL).flops_per_second == 1.0


def test_what_was_not_measured_is_said():
    constants = round_constants(passes=[speed_at(SMALL, "scoring")], work=[])
    with pytest.raises(AutomixerError, match="nothing about training"):
        constants.pass_speed("training", SMALL)
    with pytest.raises(AutomixerError, match="nothing about joint"):
        constants.work_seconds("joint", 1)


def test_an_accelerator_runs_at_a_share_of_its_peak():
    assumed = on_accelerator(round_constants(), "h100", 0.4, {"proxy": (SMALL, "bfloat16")}, scoring="float32")
    assert assumed.pass_speed("training", SMALL).flops_per_second == pytest.approx(0.4 * 989.4e12)
    assert assumed.pass_speed("scoring", SMALL).flops_per_second == pytest.approx(0.4 * 67e12)
    assert assumed.work == round_constants().work
    assert "assumed" in assumed.passes[0].source


def test_the_output_layer_stays_in_float32():
    shapes = {"proxy": (SMALL, "bfloat16")}
    assumed = on_accelerator(round_constants(), "h100", 1.0, shapes, scoring="bfloat16")
    body, head = 4 * SMALL.body_weights, 6 * SMALL.head_weights
    seconds = body / 989.4e12 + head / 67e12
    assert assumed.pass_speed("scoring", SMALL).flops_per_second == pytest.approx((body + head) / seconds)
    assert assumed.pass_speed("evaluation", SMALL).flops_per_second == pytest.approx(67e12)
    assert assumed.pass_speed("fitting", SMALL).flops_per_second == pytest.approx(67e12), "queries stay in float32"


@pytest.mark.parametrize(("name", "utilisation", "message"), [("h10", 0.4, "h100"), ("h100", 1.2, "1.2")])
def test_an_unknown_accelerator_is_refused(name: str, utilisation: float, message: str):
    with pytest.raises(ConfigurationError, match=message):
        on_accelerator(round_constants(), name, utilisation, {}, scoring="float32")
