"""One YAML, one model: what is impossible or unknown is refused in a sentence that names the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from automixer_assets.errors import AutomixerError
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets.settings import ImportedProxy, Proxy, profile_differences
from automixer_assets.settings_file import load_settings, parse_settings

CONFIGS = sorted((PROJECT_ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def document() -> dict[str, Any]:
    return yaml.safe_load((PROJECT_ROOT / "configs" / "demo.yaml").read_text())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid(path: Path):
    assert load_settings(path).mixtures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mixtures.demo.token_budgets": 1},
            r"unknown key 'mixtures.demo.token_budgets' \(did you mean 'token_budget'\?\)",
        ),
        (
            {"mixtures.demo.token_budget": 0},
            r"'mixtures.demo.token_budget': Input should be greater than 0 \(given: 0\)",
        ),
        ({"mixtures.demo.recipe": "nope"}, "mixtures.demo.recipe names 'nope', which is not defined"),
        ({"recipes.demo.proxy": "nope"}, "recipes.demo.proxy names 'nope'"),
        ({"recipes.demo.proxy": None}, "scorer 'influence' needs a `proxy`"),
        ({"recipes.demo.selection": "evenly:0"}, "'recipes.demo.selection'"),
        ({"mixtures.demo.top_share": 1.5}, "less than or equal to 1"),
        ({"mixtures.demo.max_epochs": 2}, "go together"),
        ({"tokenizer.path": "somewhere"}, "give either `path`"),
        ({"tokenizer": {"proxy": "demo"}}, r"tokenizer.proxy \(an imported proxy\) names 'demo', which is not defined"),
        (
            {"proxies.demo.checkpoints_from": {"directory": "x"}},
            "either trained or imported: remove `snap",
        ),
        ({"proxies.demo": {}}, r"key 'proxies.demo.snapshots' is missing"),
        ({"proxies.demo": {"checkpoints_from": {"pattern": "a{step}"}}}, "give either `directory` .* or `repository`"),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "step1000"}}},
            r"'proxies.demo.checkpoints_from.pattern': give the step's place once as \{step\}, .*given: 'step1000'",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "{step}-{name}"}}},
            "the step's place once",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "{step}{step}"}}},
            "the step's place once",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "{step}", "steps": []}}},
            "at least 1 item",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "{step}", "steps": [5, 5]}}},
            "steps lists 5 twice",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"directory": "x", "pattern": "{step}", "cache": "y"}}},
            "`cache` is for a `repository`",
        ),
        (
            {"proxies.demo": {"checkpoints_from": {"repository": "../x", "pattern": "{step}"}}},
            r"'proxies.demo.checkpoints_from.repository'",
        ),
        ({"proxies.demo.checkpoints": 5000}, "checkpoints=5000 exceeds training.steps=1200"),
        ({"proxies.demo.architecture.num_attention_heads": 5}, "hidden_size must be a multiple"),
        ({"tasks.names": []}, "'tasks.names'"),
        ({"targets.baseline": "nope"}, "targets.baseline names 'nope'"),
        ({"mixtures.bad key": {"recipe": "demo", "token_budget": 1}}, "mixtures.bad key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_impossible_settings_are_refused_by_name(document: dict[str, Any], change: dict[str, Any], message: str):
    document = copy.deepcopy(document)
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section[last] = value
    with pytest.raises(AutomixerError, match=message):
        parse_settings(document, "demo.yaml")


def test_a_missing_section_is_named(document: dict[str, Any]):
    del document["tokenizer"]
    with pytest.raises(AutomixerError, match=r"demo\.yaml: key 'tokenizer' is missing; add it"):
        parse_settings(document, "demo.yaml")


def test_overrides_reach_any_depth_and_are_validated():
    path = PROJECT_ROOT / "configs" / "demo.yaml"
    assert load_settings(path, {"recipes.demo.alpha": "uniform"}).recipes["demo"].alpha == "uniform"
    with pytest.raises(AutomixerError, match=r"recipes\.demo\.alpha"):
        load_settings(path, {"recipes.demo.alpha": "nonsense"})
    with pytest.raises(AutomixerError, match="'seed' is not a section"):
        load_settings(path, {"seed.deeper": 1})


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path):
    with pytest.raises(AutomixerError, match=r"none\.yaml does not exist"):
        load_settings(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(AutomixerError, match=r"broken\.yaml is not valid YAML"):
        load_settings(broken)


def test_a_mixture_takes_its_recipes_profile_and_says_what_differs(document: dict[str, Any]):
    document["recipes"]["strong"] = {"profile": "robust", "proxy": "demo", "alpha": "uniform"}
    document["mixtures"]["strong"] = {"recipe": "strong", "token_budget": 100}
    settings = parse_settings(document)
    assert settings.mixtures["strong"].profile == "robust"
    assert settings.mixtures["strong"].nonpositive_density == "softmax"
    assert profile_differences(settings.recipes["strong"]) == {"alpha": "uniform"}
    assert profile_differences(settings.recipes["demo"]) == {}


def test_checkpoint_steps_are_even_and_end_with_the_run(document: dict[str, Any]):
    proxy = parse_settings(document).proxies["demo"]
    assert isinstance(proxy, Proxy)
    assert proxy.checkpoint_steps == [120 * i for i in range(1, 11)]


def test_a_proxy_is_imported_where_checkpoints_from_is_given(document: dict[str, Any]):
    source = {"repository": "EleutherAI/pythia-70m", "pattern": "step{step}", "steps": [1000, 143000]}
    document["proxies"]["demo"] = {"checkpoints_from": source}
    document["tokenizer"] = {"proxy": "demo"}
    proxy = parse_settings(document).proxies["demo"]
    assert isinstance(proxy, ImportedProxy)
    assert proxy.checkpoints_from.repository == "EleutherAI/pythia-70m"
