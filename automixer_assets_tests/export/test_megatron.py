from __future__ import annotations

import json

import numpy as np
import pytest

from automixer_assets.export import export_mixture
from automixer_assets.export import megatron as module
from automixer_assets.export.megatron import write_index
from automixer_assets_tests.export.cases import STANDARD, make_case
from automixer_assets_tests.export.readers import expected_documents, read_megatron


@pytest.fixture(scope="module")
def out(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("megatron") / "out"
    export_mixture(**case.options(), format="megatron", out=folder)
    return folder


@pytest.mark.parametrize("group", ["short", "long", "tiny"])
def test_every_selected_document_is_there_in_the_corpus_order(case, out, group):
    assert read_megatron(out / group) == list(expected_documents(case, group))


def test_the_blend_holds_prefixes_of_files_and_shares_of_tokens(out):
    blend = (out / "blend.txt").read_text().split()
    assert [float(weight) for weight in blend[::2]] == pytest.approx([0.2, 0.5, 0.3], abs=1e-11)
    assert blend[1::2] == [str(out / group.name) for group in STANDARD]


def test_the_splits_name_all_three_keys(out):
    splits = json.loads((out / "per_split.json").read_text())
    assert list(splits) == ["train", "valid", "test"]
    assert splits["train"] == (out / "blend.txt").read_text().split()
    assert splits["valid"] is None and splits["test"] is None


def test_a_group_without_weight_is_left_out_and_said(case, out):
    assert not list(out.glob("unweighted*"))
    assert "unweighted" not in (out / "blend.txt").read_text()
    assert "group unweighted has weight 0 and is left out" in (out / "MIXTURE.md").read_text()


def test_ids_beyond_16_bits_are_written_as_int32(tmp_path):
    case = make_case(tmp_path / "case", vocab_size=70_000)
    report = export_mixture(**case.options(), format="megatron", out=tmp_path / "out")
    assert (tmp_path / "out" / "long.idx").read_bytes()[17] == 4
    assert read_megatron(tmp_path / "out" / "long") == list(expected_documents(case, "long"))
    assert "ids are written with 32 bits" in " ".join(report.document["notes"])


@pytest.mark.parametrize("n_documents", [1, 4, 5, 12])
def test_the_index_is_the_same_however_many_documents_are_held_at_once(tmp_path, monkeypatch, n_documents):
    lengths = np.arange(1, n_documents + 1, dtype="<i4") * 7
    write_index(tmp_path / "whole", lengths, "<u2")
    monkeypatch.setattr(module, "DOCUMENTS_AT_ONCE", 4)
    write_index(tmp_path / "blocks", lengths, "<u2")
    assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()
