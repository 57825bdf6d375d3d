from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from automixer_assets.export import export_mixture, flat_tokens
from automixer_assets_tests.export.cases import make_case
from automixer_assets_tests.export.readers import expected_documents


@pytest.mark.parametrize(("format", "suffix"), [("olmo-core", "npy"), ("nanotron", "ds")])
@pytest.mark.parametrize("group", ["short", "long", "tiny"])
def test_the_ids_of_all_documents_lie_back_to_back(case, tmp_path, format, suffix, group):
    export_mixture(**case.options(), format=format, out=tmp_path / "out")
    ids = np.fromfile(tmp_path / "out" / group / f"00000.{suffix}", "<u2")
    assert ids.tolist() == [token for document in expected_documents(case, group) for token in document]


def test_a_long_group_is_spread_over_files(case, tmp_path, monkeypatch):
    monkeypatch.setattr(flat_tokens, "TOKENS_PER_FILE", 15_000)
    export_mixture(**case.options(), format="olmo-core", out=tmp_path / "out")
    files = sorted((tmp_path / "out" / "long").iterdir())
    assert [path.name for path in files] == ["00000.npy", "00001.npy", "00002.npy"]
    ids = np.concatenate([np.fromfile(path, "<u2") for path in files])
    assert ids.tolist() == [token for document in expected_documents(case, "long") for token in document]
    sources = yaml.safe_load((tmp_path / "out" / "source_mixture.yaml").read_text())["sources"]
    assert next(source for source in sources if source["source_name"] == "long")["paths"] == [str(p) for p in files]


def test_olmo_core_may_repeat_as_often_as_the_run_needs_and_hardly_more(case, tmp_path):
    report = export_mixture(**case.options(), format="olmo-core", out=tmp_path / "out")
    sources = yaml.safe_load((tmp_path / "out" / "source_mixture.yaml").read_text())["sources"]
    assert sum(source["target_ratio"] for source in sources) == pytest.approx(1, abs=1e-12)
    for source, group in zip(sources, report.document["groups"], strict=True):
        needed = group["run_tokens"] / group["tokens"]
        assert needed <= source["max_repetition_ratio"] <= 1.02 * needed


def test_olmo_core_may_not_repeat_what_is_read_once(tmp_path):
    case = make_case(tmp_path / "case", token_budget=4_000)
    export_mixture(**case.options(), format="olmo-core", out=tmp_path / "out")
    sources = yaml.safe_load((tmp_path / "out" / "source_mixture.yaml").read_text())["sources"]
    assert {source["max_repetition_ratio"] for source in sources} == {1.0}


@pytest.mark.parametrize(("vocab_size", "width"), [(60_000, 2), (70_000, 4)])
def test_nanotron_is_told_folders_weights_and_the_width_of_ids(tmp_path, vocab_size, width):
    case = make_case(tmp_path / "case", vocab_size=vocab_size)
    export_mixture(**case.options(), format="nanotron", out=tmp_path / "out")
    (stage,) = yaml.safe_load((tmp_path / "out" / "data_stages.yaml").read_text())["data_stages"]
    dataset = stage["data"]["dataset"]
    assert dataset["dataset_weights"] == pytest.approx([0.2, 0.5, 0.3])
    assert dataset["token_size_in_bytes"] == width
    size = sum(path.stat().st_size for path in Path(dataset["dataset_folder"][1]).glob("*.ds"))
    assert size == 40_000 * width
