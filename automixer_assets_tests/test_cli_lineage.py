"""`automixer lineage` and `automixer gc` as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from automixer_assets.resources import PROJECT_ROOT
from automixer_assets_tests.command import SNAPSHOT, Place, create_finished_place

MIXTURE = "key:grouped_shards or key:weight_manifest"
PAGE = PROJECT_ROOT / "docs" / "lineage.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return create_finished_place(tmp_path_factory.mktemp("made") / "place")


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy to change."""
    shutil.copytree(made.folder, tmp_path / "place", ignore=shutil.ignore_patterns("*-shm"))
    return Place(tmp_path / "place")


def documented_fields() -> set[str]:
    """What docs/lineage.md says that --json holds."""
    page = PAGE.read_text().partition("## Making room")[0]
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_tree_names_every_asset_and_the_source_files_once(made: Place):
    shown = made.run("lineage", "uniform")
    assert shown.code == 0, shown.stderr
    for name in ("weight_manifest[uniform]", f"tokenized_corpus[{SNAPSHOT}]", "tokenizer", "(above)"):
        assert name in shown.stdout
    for path in (made.snapshots / SNAPSHOT).glob("*.parquet"):
        assert shown.stdout.count(f"{SNAPSHOT}/{path.name}") == 1


def test_json_holds_the_documented_fields_and_nothing_else(made: Place):
    document = json.loads(made.run("lineage", "uniform", "--json").stdout)
    fields = set(document) | {key for node in document["materialisations"] for key in node}
    assert fields == documented_fields()


def test_openlineage_events_come_one_a_line_and_with_no_other_form(made: Place):
    lines = made.run("lineage", "uniform", "--openlineage").stdout.splitlines()
    assert {json.loads(line)["eventType"] for line in lines} == {"START", "COMPLETE"}
    refused = made.run("lineage", "uniform", "--openlineage", "--json")
    assert (refused.code, refused.sentence) == (
        2,
        "--openlineage goes with neither --json nor --check: run the command twice",
    )


def test_a_mixture_that_was_never_made_is_refused_with_those_that_were(made: Place):
    refused = made.run("lineage", "unifrom")
    assert refused.code == 2
    assert "there are: uniform" in refused.sentence


def test_a_deleted_pinned_file_is_named_and_the_exit_code_says_so(place: Place):
    assert place.run("lineage", "uniform", "--check").code == 0
    lost = min((place.state / "lake" / "joint_influence").glob("*/shard-*.parquet"))
    lost.unlink()
    found = place.run("lineage", "uniform", "--check")
    assert (found.code, found.stdout.strip()) == (1, f"{lost} was deleted (joint_influence[uniform|{SNAPSHOT}])")
    (fault,) = json.loads(place.run("lineage", "uniform", "--check", "--json").stdout)["faults"]
    assert fault["path"] == str(lost)


def test_gc_lists_first_removes_on_request_and_what_is_missing_is_made_again(place: Place):
    first = json.loads(place.run("lineage", "uniform", "--json").stdout)["mixture"]
    assert json.loads(place.run("gc", "--json").stdout)["removable"] == []
    place.change_settings(lambda settings: settings["mixtures"]["uniform"].update(top_share=0.5))
    assert place.run("materialize", MIXTURE).code == 0

    listed = place.run("gc", "--keep-last", "1")
    assert "2 artefacts" in listed.stdout
    assert "nothing was removed: run again with --delete" in listed.stdout
    removed = json.loads(place.run("gc", "--keep-last", "1", "--delete", "--json").stdout)
    assert removed["deleted"]
    assert [each["names"] for each in removed["removable"]] == [
        ["grouped_shards[uniform]"],
        ["weight_manifest[uniform]"],
    ]
    assert not any((place.state / "lake" / each["uri"]).exists() for each in removed["removable"])

    gone = place.run("mixture", "show", first)
    assert gone.code == 1
    assert "was removed by `automixer gc` on " in gone.sentence
    assert place.run("lineage", first, "--check").code == 1
    place.change_settings(lambda settings: settings["mixtures"]["uniform"].update(top_share=1.0))
    assert place.run("materialize", MIXTURE).code == 0
    assert place.run("mixture", "show", first).code == 0
    assert place.run("gc", "--keep-last", "0").code == 2
