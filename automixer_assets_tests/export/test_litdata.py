from __future__ import annotations

import json

import pytest

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import STANDARD, make_case
from automixer_assets_tests.export.readers import expected_sequences, read_litdata


@pytest.fixture(scope="module")
def out(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("litdata") / "out"
    export_mixture(**case.options(), format="litdata", out=folder, sequence_length=64)
    return folder


@pytest.mark.parametrize("group", ["short", "long", "tiny"])
def test_chunks_hold_the_groups_sequences_in_order(case, out, group):
    assert read_litdata(out / group, 64) == expected_sequences(case, group, 64)


def test_the_script_reads_weights_and_repeats_without_end(out):
    mixture = json.loads((out / "mixture.json").read_text())
    assert (mixture["sequence_length"], mixture["run_sequences"]) == (64, 100_000 // 64)
    assert [(group["name"], group["passes"]) for group in mixture["groups"]] == [(g.name, None) for g in STANDARD]
    assert [group["weight"] for group in mixture["groups"]] == pytest.approx([0.2, 0.5, 0.3])
    compile((out / "load_litdata.py").read_text(), "load_litdata.py", "exec")


def test_caps_are_passes_that_the_script_allows(capped, tmp_path):
    document = export_mixture(**capped.options(), format="litdata", out=tmp_path / "out", sequence_length=64).document
    mixture = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert [group["passes"] for group in mixture["groups"]] == [2, 2, 2]
    assert [group["passes"] <= 2.0001 for group in document["groups"]] == [True, True, True]
    assert "as often as its cap allows, in whole passes, and ends then" in document["exhaustion"]


def test_ids_beyond_16_bits_are_written_as_int32(tmp_path):
    case = make_case(tmp_path / "case", vocab_size=70_000)
    report = export_mixture(**case.options(), format="litdata", out=tmp_path / "out", sequence_length=64)
    assert read_litdata(tmp_path / "out" / "long", 64) == expected_sequences(case, "long", 64)
    assert "no_header_tensor:16" in (tmp_path / "out" / "long" / "index.json").read_text()
    assert "ids are written with 32 bits" in " ".join(report.document["notes"])
