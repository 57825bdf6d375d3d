"""Exports as an asset and as a command, over a uniform mixture of the micro-world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import polars as pl
import pytest

from automixer_assets.export import FORMATS
from automixer_assets.lake import file_sha256
from automixer_assets.settings.exports import ExportFormat
from automixer_assets_tests.command import SNAPSHOT, Place, create_finished_place
from automixer_assets_tests.export.readers import read_megatron, snapshot_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose uniform mixture lists two exports, and nothing exported yet."""
    place = create_finished_place(tmp_path_factory.mktemp("exports") / "place")
    place.change_settings(lambda settings: list_exports(settings, ["megatron", {"format": "hf", "batch_size": 4}]))
    return place


def list_exports(settings: dict[str, Any], exports: list[Any]) -> None:
    settings["mixtures"]["uniform"]["exports"] = exports


def exported(place: Place) -> tuple[Path, dict[str, Any]]:
    """The latest exports: their folder, and what their page shows."""
    with place.instance() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("trainer_exports"))
        assert event is not None and event.asset_materialization is not None
        shown = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    return place.state / "lake" / str(shown["uri"]), shown


def documents(place: Place) -> dict[str, str]:
    table = pl.read_parquet(place.snapshots / SNAPSHOT / "*.parquet", columns=["id", "text"])
    return dict(table.rows())


def test_settings_know_the_formats_that_there_are() -> None:
    assert set(get_args(ExportFormat)) >= set(FORMATS)


def test_the_listed_exports_are_made_and_nothing_before_them_is_made_again(place: Place) -> None:
    result = place.run("materialize", "key:weight_manifest or key:trainer_exports")
    assert result.stdout == "1 materialised, 1 already current\n", result
    folder, shown = exported(place)
    texts = pl.read_parquet(folder / "hf" / "corpus" / "*.parquet")
    assert dict(texts.select("id", "text").rows()) == documents(place)
    assert len(read_megatron(folder / "megatron" / "corpus")) == texts.height
    assert shown["exports"] == "megatron, hf"
    assert shown["hf: what to point the trainer at"] == (folder / "hf" / "MIXTURE.md").read_text()


def test_configurations_name_the_place_where_the_files_are_published(place: Place) -> None:
    place.run("materialize", "trainer_exports")
    folder, _ = exported(place)
    _, prefix = (folder / "megatron" / "blend.txt").read_text().split()
    assert Path(prefix) == folder / "megatron" / "corpus"
    assert Path(prefix).with_name("corpus.bin").exists()


def test_other_exports_leave_the_mixture_as_it_is(place: Place) -> None:
    place.run("materialize", "trainer_exports")
    place.change_settings(lambda settings: list_exports(settings, ["nanotron"]))
    result = place.run("materialize", "key:weight_manifest or key:trainer_exports")
    assert result.stdout == "1 materialised, 1 already current\n", result
    folder, shown = exported(place)
    assert shown["exports"] == "nanotron"
    assert (folder / "nanotron" / "corpus" / "00000.ds").exists()


def test_a_mixture_without_exports_says_how_to_get_some(place: Place) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["mixtures"]["other"] = {**settings["mixtures"]["uniform"], "exports": ["hf"]}
        list_exports(settings, [])

    place.change_settings(change)
    assert place.run("materialize", "trainer_exports", "--partition", "uniform").code == 0
    assert exported(place)[1]["exports"].startswith("none: list formats under the mixture's `exports`")


def test_the_same_format_twice_is_refused(place: Place) -> None:
    result = place.run("materialize", "trainer_exports", "--set", "mixtures.uniform.exports=[hf, hf]")
    assert result.code == 2
    assert "exports lists 'hf' twice" in result.sentence


def test_the_command_exports_any_version_and_prints_json_alone(place: Place, tmp_path: Path) -> None:
    arguments = ["mixture", "export", "uniform", "--format", "megatron", "--out", str(tmp_path / "out")]
    result = place.run(*arguments, "--json")
    assert (result.code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "out" / "export.json").read_text())
    assert document["files"]["corpus.bin"] == file_sha256(tmp_path / "out" / "corpus.bin")
    before = snapshot_of(tmp_path / "out")
    again = place.run(*arguments)
    assert again.code == 0
    assert "was complete; its digests agree" in again.stdout and "MIXTURE.md" in again.stdout
    assert snapshot_of(tmp_path / "out") == before


def test_the_command_refuses_in_one_sentence(place: Place, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    arguments = ["mixture", "export", "uniform", "--out", str(tmp_path), "--format"]
    assert "is not empty" in place.run(*arguments, "megatron").sentence
    unknown = place.run(*arguments, "parquet")
    assert (unknown.code, "no export format is called 'parquet'" in unknown.sentence) == (2, True)
