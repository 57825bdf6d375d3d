from __future__ import annotations

import pytest
import yaml

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import make_case
from automixer_assets_tests.export.readers import expected_sequences, read_mds


@pytest.fixture(scope="module")
def out(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mosaicml") / "out"
    export_mixture(**case.options(), format="mosaicml", out=folder, sequence_length=64, batch_size=4)
    return folder


def test_the_yaml_names_streams_their_shares_and_the_runs_length(out):
    configuration = yaml.safe_load((out / "train_loader.yaml").read_text())
    dataset = configuration["train_loader"]["dataset"]
    assert {name: stream["proportion"] for name, stream in dataset["streams"].items()} == pytest.approx(
        {"short": 0.2, "long": 0.5, "tiny": 0.3}
    )
    assert [stream["local"] for stream in dataset["streams"].values()] == [
        str(out / name) for name in ("short", "long", "tiny")
    ]
    assert (dataset["epoch_size"], dataset["max_seq_len"]) == (100_000 // 64, 64)
    assert configuration["max_duration"] == "1ep"


def test_a_group_without_weight_is_left_out_and_said(out):
    assert not (out / "unweighted").exists()
    assert "group unweighted has weight 0 and is left out" in (out / "MIXTURE.md").read_text()


def test_ids_beyond_16_bits_are_written_as_uint32(tmp_path):
    case = make_case(tmp_path / "case", vocab_size=70_000)
    report = export_mixture(**case.options(), format="mosaicml", out=tmp_path / "out", sequence_length=64)
    assert b'"ndarray:uint32:64"' in (tmp_path / "out" / "long" / "index.json").read_bytes()
    assert read_mds(tmp_path / "out" / "long") == expected_sequences(case, "long", 64)
    assert "ids are written with 32 bits" in " ".join(report.document["notes"])


def test_without_schedules_the_whole_runs_shares_are_given(capped, tmp_path):
    document = export_mixture(**capped.options(), format="mosaicml", out=tmp_path / "out", sequence_length=64).document
    streams = yaml.safe_load((tmp_path / "out" / "train_loader.yaml").read_text())["train_loader"]["dataset"]["streams"]
    allotted = {group.name: group.allocated_tokens for group in capped.manifest.groups}
    total = sum(allotted.values())
    assert len(capped.manifest.phases) > 1
    for name, stream in streams.items():
        assert stream["proportion"] == pytest.approx(allotted[name] / total)
    assert "The weights are shares over the whole run" in document["exhaustion"]
