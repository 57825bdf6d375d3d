from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from automixer_assets_tests.command import DOCUMENTS, SNAPSHOT, Place, create_finished_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return create_finished_place(tmp_path_factory.mktemp("answers-commands") / "place")


def _manifest(place: Place) -> Path:
    (path,) = place.state.glob("lake/weight_manifest/*/manifest.json")
    return path


def test_verify_ends_with_0_when_all_agrees_and_with_1_when_a_number_differs(place: Place, tmp_path: Path):
    fine = place.run("mixture", "verify", "uniform", "--json")
    assert fine.code == 0, fine.stderr
    assert json.loads(fine.stdout)["passed"] is True
    document = json.loads(_manifest(place).read_text())
    document["groups"][0]["density"] *= 1.01
    (tmp_path / "changed.json").write_text(json.dumps(document))
    changed = place.run("mixture", "verify", str(tmp_path / "changed.json"), "--json")
    assert changed.code == 1
    wheres = [each["where"] for check in json.loads(changed.stdout)["checks"] for each in check["differences"]]
    assert wheres == ["digest", "groups[corpus].density"]
    assert "groups[corpus].density" in place.run("mixture", "verify", str(tmp_path / "changed.json")).stdout


def test_what_does_not_exist_is_bad_usage(place: Place):
    for arguments in (["verify", "nothing"], ["verify", "./nothing.json"], ["diff", "uniform", "nothing"]):
        result = place.run("mixture", *arguments)
        assert result.code == 2
        assert "nothing" in result.sentence
    result = place.run("mixture", "explain", "uniform", "no-such-document")
    assert result.code == 2
    assert "no-such-document" in result.sentence


def test_a_mixture_equals_itself(place: Place):
    result = place.run("mixture", "diff", "uniform", str(_manifest(place)))
    assert result.code == 0
    assert result.stdout.startswith("equal")
    assert json.loads(place.run("mixture", "diff", "uniform", "uniform", "--json").stdout)["equal"] is True


def test_a_mixture_wants_the_same_documents_as_itself(place: Place):
    result = place.run("mixture", "overlap", "uniform", str(_manifest(place)), "--top-share", "0.2", "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["n_documents"] == DOCUMENTS
    (pair,) = document["groups"]
    assert (pair["n_first"], pair["overlap"], pair["by_chance"]) == (DOCUMENTS // 5, 1.0, 0.2)
    assert pair["rank_correlation"] is None, "all utilities are equal"
    shown = place.run("mixture", "overlap", "uniform", "uniform").stdout
    assert "the top documents of joint utility" in shown
    assert place.run("mixture", "overlap", "uniform", "nothing").code == 2


def test_explain_shows_the_text_of_the_source(place: Place):
    source = pl.read_parquet(min((place.snapshots / SNAPSHOT).glob("*.parquet")))
    result = place.run("mixture", "explain", "uniform", source["id"][0], "--full", "--json")
    assert result.code == 0, result.stderr
    (document,) = json.loads(result.stdout)
    assert document["text"] == source["text"][0]
    shown = place.run("mixture", "explain", "uniform", source["id"][0])
    assert source["id"][0] in shown.stdout
    assert "corpus" in shown.stdout
