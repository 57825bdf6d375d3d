"""A plan prices what is still to be made, says what is there, and starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.planning.constants import save_constants
from automixer_assets_tests.command import DOCUMENTS, SNAPSHOT, Place, create_finished_place, create_place
from automixer_assets_tests.planning.machine import round_constants

SCORED = {"profile": "paper", "proxy": "demo", "selection": "evenly:2"}


@pytest.fixture(scope="module")
def constants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("constants") / "constants.json"
    save_constants(round_constants(), path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose uniform mixture is made."""
    return create_finished_place(tmp_path_factory.mktemp("finished") / "place")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where nothing was made, with a recipe that scores."""
    place = create_place(tmp_path_factory.mktemp("fresh") / "place")
    place.change_settings(lambda settings: settings["recipes"].update(scored=SCORED))
    place.change_settings(
        lambda settings: settings["mixtures"].update(scored={"recipe": "scored", "token_budget": 10_000})
    )
    return place


def planned(place: Place, constants: Path, *arguments: str) -> dict[str, Any]:
    result = place.run("plan", "--json", "--constants", str(constants), *arguments)
    assert result.code == 0, result.stderr
    return json.loads(result.stdout)


def stages(plan: dict[str, Any], part: str = "stages") -> dict[str, dict[str, Any]]:
    return {stage["stage"]: stage for stage in plan[part]}


def test_what_is_there_costs_nothing(finished: Place, constants: Path) -> None:
    found = stages(planned(finished, constants))
    made = ("snapshot_inventory", "tokenizer", "tokenized_corpus", "joint_influence", "weight_manifest")
    assert {name: (found[name]["to_make"], found[name]["current"]) for name in made} == dict.fromkeys(made, (0, 1))
    assert all(found[name]["cost"]["seconds"] == 0 for name in made)
    assert found["leakage"]["to_make"] == 1


def test_nothing_is_trained_for_recipes_without_checkpoints(finished: Place, constants: Path) -> None:
    assert not any(stage["accelerator"] for stage in planned(finished, constants)["stages"])


def test_a_plan_makes_nothing(fresh: Place, constants: Path) -> None:
    planned(fresh, constants)
    assert not (fresh.state / "lake").exists()


def test_stages_come_in_the_order_of_the_pipeline(fresh: Place, constants: Path) -> None:
    assert list(stages(planned(fresh, constants))) == [
        "snapshot_inventory",
        "tokenizer",
        "tokenized_corpus",
        "leakage",
        "demo/proxy_run",
        "demo/benchmark_table",
        "demo/influence_query",
        "demo/checkpoint_influence",
        "joint_influence",
        "grouped_shards",
        "weight_manifest",
    ]


def test_scoring_is_priced_per_checkpoint_and_snapshot(fresh: Place, constants: Path) -> None:
    plan = planned(fresh, constants)
    scoring = stages(plan)["demo/checkpoint_influence"]
    (size,) = plan["snapshots"]
    assert (size["documents"], size["how"]) == (DOCUMENTS, "Parquet footers")
    assert (scoring["to_make"], scoring["cost"]["tokens"]) == (2, 2 * size["tokens"])
    assert scoring["cost"]["seconds"] == pytest.approx(scoring["cost"]["flops"] / 1e9)


def test_more_workers_shorten_scoring_as_far_as_there_are_shards_and_grouping_not_at_all(
    fresh: Place, constants: Path
) -> None:
    one, many = (stages(planned(fresh, constants, "--workers", number)) for number in ("1", "1000"))
    shards = -(-DOCUMENTS // 25)
    name = "demo/checkpoint_influence"
    assert one[name]["wall_seconds"] == pytest.approx(many[name]["wall_seconds"] * 2 * shards)
    assert one["grouped_shards"]["to_make"] == many["grouped_shards"]["cost"]["pieces"] == 2


def test_a_snapshot_that_is_not_here_is_planned_by_its_tokens(fresh: Place, constants: Path) -> None:
    before, after = planned(fresh, constants), planned(fresh, constants, "--tokens", "CC-MAIN-2030-01=2B")
    sizes = {size["name"]: size["tokens"] for size in after["snapshots"]}
    assert sizes["CC-MAIN-2030-01"] == 2e9
    name = "demo/checkpoint_influence"
    assert stages(after)[name]["to_make"] == stages(before)[name]["to_make"] + 2
    assert stages(after)["demo/proxy_run"] == stages(before)["demo/proxy_run"]


def test_one_more_snapshot_trains_nothing_and_remakes_mixtures(fresh: Place, constants: Path) -> None:
    added = stages(planned(fresh, constants, "--added", "1M"), "added_snapshot")
    assert list(added) == [
        "snapshot_inventory",
        "tokenized_corpus",
        "leakage",
        "demo/checkpoint_influence",
        "joint_influence",
        "grouped_shards",
        "weight_manifest",
    ]
    assert added["demo/checkpoint_influence"]["cost"]["tokens"] == 2e6


def test_changed_sources_make_everything_from_them_due(constants: Path, tmp_path: Path) -> None:
    place = create_finished_place(tmp_path / "place")
    source = next((place.snapshots / SNAPSHOT).glob("*.parquet"))
    source.touch()
    found = stages(planned(place, constants))
    assert all(stage["current"] == 0 for stage in found.values())


def test_a_person_reads_a_table_with_what_was_assumed(fresh: Place, constants: Path) -> None:
    result = fresh.run("plan", "--constants", str(constants), "--workers", "4")
    assert result.code == 0
    for said in (
        "demo/checkpoint_influence",
        "One more snapshot",
        "Parquet footers",
        "nothing is tokenised yet",
        "4 x",
    ):
        assert said in result.stdout


def test_a_data_sheet_stands_in_for_an_accelerator_and_is_said_to(fresh: Place, constants: Path) -> None:
    plan = planned(fresh, constants, "--hardware", "h100", "--utilisation", "0.5")
    assert plan["machine"]["device"] == "NVIDIA H100 SXM 80GB"
    assert "50% of the data sheet's peak is assumed" in plan["notes"][0]
    scoring = stages(plan)["demo/checkpoint_influence"]["cost"]
    assert scoring["seconds"] == pytest.approx(scoring["flops"] / (0.5 * 67e12))


def test_documents_are_planned_in_the_precision_of_the_settings(fresh: Place, constants: Path) -> None:
    half = ("--set", "scoring.precision=bfloat16")

    def seconds(*arguments: str) -> float:
        plan = planned(fresh, constants, "--hardware", "h100", *arguments)
        return stages(plan)["demo/checkpoint_influence"]["cost"]["seconds"]

    assert seconds(*half) < seconds()
    assert seconds(*half) == seconds("--scoring-type", "bfloat16")
    assert seconds(*half, "--scoring-type", "float32") == seconds()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--tokens", "x=many"), 2, "SNAPSHOT=TOKENS"),
        (("--hardware", "abacus"), 2, "h100"),
        (("--hardware", "h100", "--scoring-type", "int8"), 2, "int8"),
        (("--constants", "nowhere.json"), 1, "automixer calibrate"),
        (("--set", "recipes.scored.proxy=other"), 2, "other"),
    ],
)
def test_bad_usage_is_one_sentence(
    fresh: Place, constants: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    given = arguments if "--constants" in arguments else (*arguments, "--constants", str(constants))
    result = fresh.run("plan", *given)
    assert (result.code, said in result.sentence) == (code, True), result.stderr


def test_a_snapshot_of_unknown_size_is_named(fresh: Place, constants: Path) -> None:
    result = fresh.run("plan", "--constants", str(constants), "--set", "corpus.directory=nowhere")
    assert result.code == 2
    assert SNAPSHOT in result.sentence
    assert "--tokens" in result.sentence


def test_what_was_made_is_compared_with_what_was_recorded(finished: Place, constants: Path) -> None:
    from automixer_assets.plan_record import compare_with_record
    from automixer_assets.plan_sizes import Given
    from automixer_assets.planning.constants import load_constants
    from automixer_assets.resources import Automixer

    with finished.instance() as instance:
        rows = compare_with_record(instance, Automixer(), load_constants(constants), Given())
    found = {row.stage: row for row in rows}
    assert set(found) == {
        "snapshot_inventory",
        "tokenizer",
        "tokenized_corpus",
        "joint_influence",
        "grouped_shards",
        "weight_manifest",
    }
    assert all(row.artifacts == 1 and row.recorded > 0 for row in rows)
    text = next(size["text_bytes"] for size in planned(finished, constants)["snapshots"])
    assert found["tokenized_corpus"].predicted == pytest.approx(text / 1e6)


def test_what_was_never_scored_is_priced_by_calibration(tmp_path: Path) -> None:
    from automixer_assets.partitions import checkpoints_of, register

    place = create_finished_place(tmp_path / "place")
    place.change_settings(lambda settings: settings["recipes"].update(scored=SCORED))
    with place.instance() as instance:
        register(instance, checkpoints_of("demo"), ["demo-step-000120"])
    unknown = json.loads(place.run("snapshot", "stale", "--json").stdout)[0]
    assert (unknown["seconds"], unknown["calibrated"]) == (None, False)
    save_constants(round_constants(), place.state / "constants.json")
    priced = json.loads(place.run("snapshot", "stale", "--json").stdout)[0]
    scoring = stages(planned(place, place.state / "constants.json"))["demo/checkpoint_influence"]
    assert (priced["seconds"], priced["calibrated"]) == (pytest.approx(scoring["cost"]["seconds"]), True)
    assert "by calibration" in " ".join(place.run("snapshot", "stale").stdout.split())


def test_a_plan_reads_what_calibrate_wrote(fresh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from automixer_assets.planning import clock, work_probes

    monkeypatch.setattr(clock, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(clock, "LEAST_ROUNDS", 1)
    monkeypatch.setattr(work_probes, "SCORED_ROWS", 500)
    monkeypatch.setattr(work_probes, "DISK_BYTES", 2**20)
    calibrated = fresh.run("calibrate")
    assert calibrated.code == 0, calibrated.stderr
    assert "scoring, " in calibrated.stderr
    assert f"written to {fresh.state / 'constants.json'}" in calibrated.stdout
    plan = fresh.run("plan", "--json")
    assert plan.code == 0, plan.stderr
    assert all(stage["cost"]["seconds"] > 0 for stage in json.loads(plan.stdout)["stages"])
