"""Claims about the command line: what it prints where, its exit codes, and which settings a run sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from automixer_assets.mixture.manifest import Manifest
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets.settings_file import load_settings
from automixer_assets_tests.command import (
    DOCUMENTS,
    SNAPSHOT,
    Place,
    create_finished_place,
    create_place,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose uniform mixture is made. Tests add to it at most."""
    return create_finished_place(tmp_path_factory.mktemp("finished") / "place")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where nothing was made."""
    return create_place(tmp_path_factory.mktemp("fresh") / "place")


def digest_of(place: Place) -> str:
    (row,) = json.loads(place.run("mixture", "list", "--json").stdout)
    return row["digest"]


def test_what_is_current_is_not_made_again(finished: Place) -> None:
    result = finished.run("materialize", "key:tokenized_corpus or key:tokenizer")
    assert (result.code, result.stdout, result.stderr) == (0, "0 materialised, 2 already current\n", "")
    forced = finished.run("materialize", "tokenizer", "--force")
    assert (forced.code, forced.stdout.strip(), forced.stderr.strip()) == (
        0,
        "1 materialised, 0 already current",
        "tokenizer",
    )


@pytest.mark.parametrize(("selection", "steps"), [("tokenizer", 1), ("+tokenizer", 2), ("+tokenized_corpus", 3)])
def test_a_plus_takes_everything_that_the_asset_needs(finished: Place, selection: str, steps: int) -> None:
    assert finished.run("materialize", selection).stdout == f"0 materialised, {steps} already current\n"


def test_a_partition_may_be_named_by_one_of_its_dimensions(finished: Place) -> None:
    for partition in ("uniform", SNAPSHOT, f"uniform|{SNAPSHOT}"):
        result = finished.run("materialize", "joint_influence", "--partition", partition)
        assert result.stdout == "0 materialised, 1 already current\n", partition


def test_the_list_names_each_version_once_with_its_weights(finished: Place) -> None:
    finished.run("materialize", "weight_manifest", "--force")
    (row,) = json.loads(finished.run("mixture", "list", "--json").stdout)
    assert row["mixture"] == row["recipe"] == "uniform"
    assert row["snapshots"] == [SNAPSHOT]
    assert row["weights"] == {"corpus": 1.0}
    printed = finished.run("mixture", "list").stdout
    assert all(word in printed for word in ("uniform", row["digest"][:12], SNAPSHOT, "corpus 1.000"))


def test_json_is_the_manifest_and_nothing_else(finished: Place) -> None:
    result = finished.run("mixture", "show", "uniform", "--json")
    assert (result.code, result.stderr) == (0, "")
    manifest = Manifest.model_validate_json(result.stdout)
    assert manifest.groups[0].n_documents == DOCUMENTS
    assert manifest.token_budget == 10_000


def test_show_prints_groups_and_what_holds_for_all(finished: Place) -> None:
    printed = finished.run("mixture", "show", "uniform").stdout
    assert f"Mixture uniform@{digest_of(finished)[:12]}" in printed
    assert all(word in printed for word in ("corpus", "profile paper", SNAPSHOT, "budget 10,000"))


@pytest.mark.parametrize("length", [0, 6, 64])
def test_a_version_is_found_by_any_beginning_of_its_digest(finished: Place, length: int) -> None:
    digest = digest_of(finished)
    found = finished.run("mixture", "show", f"uniform@{digest[:length]}", "--json")
    assert json.loads(found.stdout)["digest"] == digest


def test_an_empty_project_has_an_empty_list(fresh: Place) -> None:
    assert json.loads(fresh.run("mixture", "list", "--json").stdout) == []
    assert fresh.run("mixture", "list").code == 0


def test_an_unknown_mixture_is_answered_with_those_that_exist(fresh: Place, finished: Place) -> None:
    result = fresh.run("mixture", "show", "uniform")
    assert (result.code, result.stdout) == (2, "")
    assert result.sentence.startswith("no mixture 'uniform' was made (none was made yet): define it under `mixtures:`")
    result = finished.run("mixture", "show", "unifrom", "--json")
    assert (result.code, result.stdout) == (2, "")
    assert "no mixture 'unifrom' was made (there are: uniform)" in result.sentence


def test_an_unknown_digest_is_answered_with_those_that_exist(finished: Place) -> None:
    result = finished.run("mixture", "show", "uniform@zzz")
    assert result.code == 2
    assert result.sentence == f"mixture 'uniform' has no version 'zzz'; its versions are: {digest_of(finished)[:12]}"


def test_an_ambiguous_digest_is_answered_with_the_candidates(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    with place.instance() as instance:
        for digest in ("abc1" + "0" * 60, "abc2" + "0" * 60):
            metadata = {"sha256": digest, "uri": f"weight_manifest/{digest}", "pins": "[]"}
            instance.report_runless_asset_event(
                dg.AssetMaterialization("weight_manifest", partition="m", metadata=metadata)
            )
    result = place.run("mixture", "show", "m@abc")
    assert result.code == 2
    assert result.sentence == ("'m@abc' matches several versions of 'm': give more of one of abc10000000, abc20000000")
    unmade = place.run("mixture", "show", "m@abc1")
    assert unmade.code == 1
    assert "is missing or incomplete: restore it from a copy of the lake" in unmade.sentence


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "nonsense"], "--set 'nonsense' is not of the form path=value, e.g. recipes.demo.alpha=uniform"),
        (["--set", "=1"], "--set '=1' is not of the form path=value"),
        (["--set", "seed=[1"], "--set seed: the value '[1' is not valid YAML; quote it"),
        (["--set", "seed.deeper=1"], "cannot override 'seed.deeper': 'seed' is not a section"),
        (["--set", "sed=1"], "unknown key 'sed' (did you mean 'seed'?); remove or correct it"),
        (["--set", "mixtures.uniform.top_share=2"], "'mixtures.uniform.top_share': Input should be less than or equal"),
        (["--config", "none.yaml"], "none.yaml does not exist: set AUTOMIXER_CONFIG or pass --config"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(fresh: Place, arguments: list[str], said: str) -> None:
    result = fresh.run("materialize", "tokenizer", *arguments)
    assert (result.code, result.stdout) == (2, "")
    assert said in result.sentence
    assert not (fresh.state / "lake").exists()


def test_an_unknown_key_in_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    place.change_settings(lambda settings: settings["mixtures"]["uniform"].update(token_budgets=5))
    result = place.run("mixture", "list")
    assert result.code == 2
    assert result.sentence.replace("\n", "") == (
        f"{place.config}: unknown key 'mixtures.uniform.token_budgets' (did you mean 'token_budget'?); "
        "remove or correct it"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["materialize", "nonsense"], "selection 'nonsense' matches no asset; there are: snapshot_inventory"),
        (["materialize", "a b ("], "selection 'a b (' is not understood: name an asset, +NAME"),
        (["materialize", "tokenized_corpus", "--partition", "x"], "no selected asset has a partition 'x'"),
        (["snapshot", "add", SNAPSHOT, "a b"], "key 'a b' is not allowed"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_right_are_bad_usage(fresh: Place, arguments: list[str], said: str) -> None:
    result = fresh.run(*arguments)
    assert (result.code, result.stdout) == (2, "")
    assert said in result.sentence


@pytest.mark.parametrize("arguments", [["nonsense"], ["mixture", "show"], ["materialize", "x", "--nonsense"]])
def test_unknown_commands_and_options_are_bad_usage(fresh: Place, arguments: list[str]) -> None:
    result = fresh.run(*arguments)
    assert (result.code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


def test_a_run_that_fails_exits_with_one_and_its_own_words(fresh: Place) -> None:
    result = fresh.run("materialize", "tokenizer")
    assert result.code == 1
    assert result.sentence == (
        f"tokenizer needs snapshot_inventory[{SNAPSHOT}], which is not materialised: "
        f"run `automixer materialize snapshot_inventory --partition '{SNAPSHOT}'`"
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DAGSTER_HOME": "/nowhere/at/all"}, "DAGSTER_HOME '/nowhere/at/all' is not the absolute path of a folder"),
        ({"DAGSTER_HOME": "relative"}, "DAGSTER_HOME 'relative' is not the absolute path of a folder"),
        ({"AUTOMIXER_STATE": "/dev/null"}, "the state folder /dev/null cannot be created (File exists): set"),
        ({"AUTOMIXER_STATE": "/dev/null/x"}, "the state folder /dev/null/x cannot be created (Not a directory)"),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_work_is_bad_configuration(
    fresh: Place, environment: dict[str, str], said: str
) -> None:
    result = fresh.run("mixture", "list", **environment)
    assert result.code == 2
    assert said in result.sentence


def test_registering_a_snapshot_says_so_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    result = place.run("snapshot", "add", SNAPSHOT, "MW-2099-01")
    assert result.code == 1
    assert "snapshots/MW-2099-01 does not exist: create it or correct corpus.directory" in result.sentence
    with place.instance() as instance:
        assert instance.get_dynamic_partitions("snapshot") == [], "all or none"
    assert place.run("snapshot", "add", SNAPSHOT).stdout == f"registered: {SNAPSHOT}\n"
    with place.instance() as instance:
        assert instance.get_dynamic_partitions("snapshot") == [SNAPSHOT]


def test_sync_makes_recipes_and_mixtures_known(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    assert place.run("sync").code == 0
    with place.instance() as instance:
        assert instance.get_dynamic_partitions("mixture") == ["uniform"]
        assert "uniform" in instance.get_dynamic_partitions("recipe")


def test_an_override_changes_its_own_section_even_where_yaml_shares_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared.yaml"
    text = (PROJECT_ROOT / "configs" / "demo.yaml").read_text()
    proxys, targets = "    architecture: {preset: demo}\n", "\n  architecture: {preset: demo}\n"
    assert proxys in text and targets in text
    text = text.replace(proxys, "    architecture: &tiny {preset: demo}\n", 1)
    shared.write_text(text.replace(targets, "\n  architecture: *tiny\n", 1))
    changed = load_settings(shared, {"proxies.demo.architecture.hidden_size": 192})
    plain = load_settings(shared)
    assert changed.proxies["demo"].model_dump()["architecture"]["hidden_size"] == 192
    assert changed.targets is not None
    assert changed.targets == plain.targets


def test_an_override_reaches_the_run_and_only_that(finished: Place) -> None:
    before = digest_of(finished)
    result = finished.run("materialize", "weight_manifest", "--set", "mixtures.uniform.token_budget=20000")
    assert result.stdout == "1 materialised, 0 already current\n"
    changed = json.loads(finished.run("mixture", "show", "uniform", "--json").stdout)
    assert changed["token_budget"] == 20_000
    assert finished.run("materialize", "weight_manifest").stdout == "1 materialised, 0 already current\n"
    again = json.loads(finished.run("mixture", "show", "uniform", "--json").stdout)
    assert again["digest"] == before
    rows: list[dict[str, Any]] = json.loads(finished.run("mixture", "list", "--json").stdout)
    assert [row["digest"] for row in rows] == [before, changed["digest"]]


def test_the_real_command_prints_json_alone_and_its_exit_codes(finished: Place) -> None:
    shown = finished.run_process("mixture", "show", "uniform", "--json")
    assert shown.code == 0
    assert json.loads(shown.stdout)["mixture"] == "uniform"
    unknown = finished.run_process("mixture", "show", "nope", "--json")
    assert (unknown.code, unknown.stdout) == (2, "")
    assert "no mixture 'nope' was made" in unknown.sentence


def test_snapshots_are_listed_and_withdrawn(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    place.run("snapshot", "add", SNAPSHOT)
    assert place.run("snapshot", "list").stdout.split() == [SNAPSHOT]
    assert json.loads(place.run("snapshot", "list", "--json").stdout) == [SNAPSHOT]
    assert place.run("snapshot", "remove", SNAPSHOT).code == 0
    assert json.loads(place.run("snapshot", "list", "--json").stdout) == []
    unknown = place.run("snapshot", "remove", SNAPSHOT)
    assert unknown.code == 2
    assert f"no snapshot '{SNAPSHOT}' is registered" in unknown.sentence


def test_stale_scores_are_listed_with_their_price_and_nothing_starts(tmp_path: Path) -> None:
    place = create_place(tmp_path / "place")
    found = place.run("snapshot", "stale", "--json")
    assert json.loads(found.stdout) == [
        {
            "proxy": "demo",
            "stale": [],
            "missing": [],
            "current": 0,
            "tokens": 0,
            "not_tokenized": [],
            "seconds": None,
            "calibrated": False,
        }
    ]
    assert place.run("snapshot", "stale").stdout == "all 0 scores of demo are current\n"
