from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automixer_assets.answers.findings import Verification
from automixer_assets.mixture.manifest import manifest_digest
from automixer_assets_tests.answers.conftest import VARIANTS, Answers, changed

GROUP = "demo-step-000060"


def _wheres(found: Verification) -> list[str]:
    return [each.where for each in found.differences]


@pytest.mark.parametrize("name", ["paper", *VARIANTS, "grown", "uniform"])
def test_an_untouched_mixture_agrees_in_every_number(answers: Answers, name: str):
    found = answers.verify(name)
    assert found.differences == []
    assert found.passed
    compared = {check.name: check.n_compared for check in found.checks}
    assert compared["joint influence"] > 1000
    assert compared["members"] > 1000
    assert compared["exposure ledger"] > 100
    assert (compared["normalisation"] > 0) == (name in ("scaled", "ranked", "task_ranked"))


def _number_places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(document, bool) or not isinstance(document, dict | list | int | float):
        return
    if isinstance(document, int | float):
        yield place
        return
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield from _number_places(value, (*place, key))


def _representative(place: tuple[Any, ...]) -> bool:
    """One of the many listed shards stands for all, and one of the knots of a sample's scale."""
    return ("shards" not in place or (place[1], place[3]) == (1, 2)) and ("scale" not in place or place[4] == 3)


def _with_changed_number(document: dict[str, Any], place: tuple[Any, ...]) -> dict[str, Any]:
    copy = json.loads(json.dumps(document))
    holder = copy
    for key in place[:-1]:
        holder = holder[key]
    value = holder[place[-1]]
    holder[place[-1]] = value + 1 if isinstance(value, int) else value * (1 - 1e-6) or 1e-6
    copy["digest"] = manifest_digest(copy)  # a careful forger
    return copy


@pytest.mark.parametrize("name", ["capped", "ranked"])
def test_a_change_of_any_number_is_noticed_even_if_the_digest_is_made_to_fit(
    answers: Answers, name: str, tmp_path: Path
):
    document = answers.inputs(name).manifest.model_dump(mode="json")
    places = [place for place in _number_places(document) if _representative(place)]
    assert len(places) > 35
    for place in places:
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(_with_changed_number(document, place)))
        if place == ("schema_version",):
            continue  # refused by the reader: below
        wheres = _wheres(answers.verify(str(path)))
        assert wheres, f"nobody notices {place}"
        field = next(key for key in reversed(place) if isinstance(key, str))
        if place[0] == "phases" and field in document["phases"][0]["weights"]:
            field = "phases"
        assert any(field in where for where in wheres) or place[0] == "options", (place, wheres)


def test_a_manifest_of_another_schema_is_refused(answers: Answers, tmp_path: Path):
    from automixer_assets.errors import AutomixerError

    document = answers.inputs("paper").manifest.model_dump(mode="json")
    (tmp_path / "manifest.json").write_text(json.dumps(document | {"schema_version": 2}))
    with pytest.raises(AutomixerError, match="schema_version"):
        answers.inputs(str(tmp_path / "manifest.json"))


def test_a_changed_weight_is_blamed_once_and_the_digest_with_it(answers: Answers, tmp_path: Path):
    document = answers.inputs("paper").manifest.model_dump(mode="json")
    first, second = document["groups"]
    first["weight"], second["weight"] = first["weight"] + 0.01, second["weight"] - 0.01  # the sum still fits
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    found = answers.verify(str(tmp_path / "manifest.json"))
    expected = {"digest", f"groups[{first['name']}].weight", f"groups[{second['name']}].weight"}
    assert set(_wheres(found)) == expected
    difference = next(each for each in found.differences if each.where.startswith(f"groups[{first['name']}]"))
    assert difference.stored - difference.recomputed == pytest.approx(0.01)


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def _scale_one(column: str, row: int) -> Callable[[Path], None]:
    """Change one number of a Parquet file by a part in ten thousand."""

    def change(path: Path) -> None:
        table = pq.read_table(path)
        values = table[column].to_numpy().copy()
        values[row] *= 1.0001
        index = table.schema.get_field_index(column)
        pq.write_table(table.set_column(index, column, pa.array(values)), path)

    return change


def _without_row(row: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(pa.concat_tables([table.slice(0, row), table.slice(row + 1)]), path)

    return change


def test_one_byte_of_a_selection_file_is_named(answers: Answers):
    inputs = answers.inputs("paper")
    path = inputs.lake.root / inputs.manifest.groups[0].shards[1].uri
    with changed(path, _flip_a_byte):
        wheres = _wheres(answers.verify("paper"))
    assert f"sha256 of {path}" in wheres
    assert any("shards[" in where and where.endswith(".sha256") for where in wheres)


def test_one_score_is_named_with_its_row(answers: Answers):
    inputs = answers.inputs("paper")
    column = inputs.score_columns[GROUP][0]
    scores = inputs.influence(GROUP, "MW-2026-01") / "shard-00000.parquet"
    with changed(scores, _scale_one(column, 7)):
        wheres = _wheres(answers.verify("paper"))
    assert f"sha256 of {scores}" in wheres
    joint = inputs.joint("MW-2026-01") / "shard-00000.parquet"
    assert f"{joint}: utility__{GROUP}, row 7" in wheres


def test_one_row_of_joint_influence_is_named(answers: Answers):
    inputs = answers.inputs("paper")
    joint = inputs.joint("MW-2026-02") / "shard-00000.parquet"
    with changed(joint, _scale_one("joint_utility", 3)):
        wheres = _wheres(answers.verify("paper"))
    assert f"{joint}: joint_utility, row 3" in wheres
    assert f"{joint}: joint_influence, row 3" in wheres


def test_a_document_taken_out_of_a_selection_is_named(answers: Answers):
    inputs = answers.inputs("paper")
    path = inputs.lake.root / inputs.manifest.groups[0].shards[0].uri
    doc_id = pl.read_parquet(path)["doc_id"][2]
    with changed(path, _without_row(2)):
        found = answers.verify("paper")
    named = [each for each in found.differences if repr(doc_id) in each.where]
    assert [each.stored for each in named] == ["left out"]
    assert any(".weight" in where for where in _wheres(found)) or any(".density" in w for w in _wheres(found))


def test_a_threshold_of_the_groups_is_named_with_the_right_one(answers: Answers):
    inputs = answers.inputs("paper")
    path, right = inputs.grouped / "groups.parquet", inputs.manifest.groups[1].threshold
    with changed(path, _scale_one("threshold", 1)):
        found = answers.verify("paper")
    difference = next(each for each in found.differences if each.where.endswith(f"{GROUP}.threshold"))
    assert difference.recomputed == right
    assert difference.stored == pytest.approx(right * 1.0001)


@pytest.mark.parametrize("where", ["selection", "joint", "ledger", "influence", "memberships"])
def test_a_deleted_file_is_named_and_the_rest_is_still_verified(answers: Answers, where: str):
    inputs = answers.inputs("paper")
    path = {
        "selection": inputs.lake.root / inputs.manifest.groups[0].shards[0].uri,
        "joint": inputs.joint("MW-2026-01") / "shard-00000.parquet",
        "ledger": inputs.ledger,
        "influence": inputs.influence(GROUP, "MW-2026-01") / "shard-00000.parquet",
        "memberships": inputs.grouped / "memberships.parquet",
    }[where]
    assert path is not None
    with changed(path, Path.unlink):
        found = answers.verify("paper")
    assert not found.passed
    assert str(path) in _wheres(found)
    assert next(check for check in found.checks if check.name == "checkpoints").passed


def test_a_copied_manifest_is_verified_with_the_lake_of_the_state(answers: Answers, tmp_path: Path):
    inputs = answers.inputs("capped")
    (tmp_path / "copy.json").write_text(json.dumps(inputs.manifest.model_dump(mode="json")))
    assert answers.verify(str(tmp_path / "copy.json")).passed


def test_a_manifest_of_another_state_names_what_is_missing(answers: Answers, tmp_path: Path):
    document = answers.inputs("paper").manifest.model_dump(mode="json")
    for pin in document["pins"]:
        pin |= {"data_version": "0" * 32, "sha256": "0" * 32, "uri": pin["uri"][:-1] + "x"}
    document["digest"] = manifest_digest(document)
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    found = answers.verify(str(tmp_path / "manifest.json"))
    assert any("grouped_shards[demo]" in where and "data_version" in where for where in _wheres(found))
    assert any(str(answers.world.lake.root / "grouped_shards") in where for where in _wheres(found))


def test_differences_can_be_written_as_json(answers: Answers):
    inputs = answers.inputs("paper")
    with changed(inputs.joint("MW-2026-02") / "shard-00000.parquet", _scale_one("joint_utility", 3)):
        document = json.loads(json.dumps(answers.verify("paper").as_json()))
    assert document["passed"] is False
    assert any(check["n_differences"] for check in document["checks"])
    assert all(np.isfinite(each["n_compared"]) for each in document["checks"])
