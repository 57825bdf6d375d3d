from __future__ import annotations

import json
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.export import export_mixture
from automixer_assets.proxy.tokenizer import train_tokenizer
from automixer_assets_tests.export.cases import Case
from automixer_assets_tests.export.readers import read_megatron

END = 0


@pytest.fixture(scope="module")
def tokenizer(case: Case, tmp_path_factory) -> Path:
    """Another tokenizer than the mixture's: a byte-level BPE of the long group's texts."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(iter(case.texts("long").values()), 300, folder)
    return folder


def encoded(tokenizer: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    return [*Tokenizer.from_file(str(tokenizer / "tokenizer.json")).encode(text, add_special_tokens=False).ids, END]


def test_documents_are_tokenised_anew(case, tokenizer, tmp_path):
    report = export_mixture(**case.options(), format="megatron", out=tmp_path / "out", tokenizer=tokenizer)
    documents = read_megatron(tmp_path / "out" / "tiny")
    assert sorted(documents) == sorted(encoded(tokenizer, text) for text in case.texts("tiny").values())
    counted = {group["name"]: group["tokens"] for group in report.document["groups"]}
    assert counted["tiny"] == sum(map(len, documents))
    assert report.document["token_ids"]["vocab_size"] == 300


def test_shares_of_tokens_stay_and_weights_of_documents_follow_the_new_lengths(case, tokenizer, tmp_path):
    report = export_mixture(**case.options(), format="hf", out=tmp_path / "out", tokenizer=tokenizer / "tokenizer.json")
    groups = report.document["groups"]
    assert [group["share_of_tokens"] for group in groups] == pytest.approx([0.2, 0.5, 0.3])
    parts = {}
    for group in groups:
        lengths = [len(encoded(tokenizer, text)) for text in case.texts(group["name"]).values()]
        assert group["tokens"] == sum(lengths)
        parts[group["name"]] = group["share_of_tokens"] / (sum(lengths) / len(lengths))
    for group in groups:
        assert group["weight"] == pytest.approx(parts[group["name"]] / sum(parts.values()))


def test_under_caps_the_run_is_as_long_as_the_new_counts_allow(capped, tokenizer, tmp_path):
    report = export_mixture(**capped.options(), format="megatron", out=tmp_path / "out", tokenizer=tokenizer)
    passes = [group["passes"] for group in report.document["groups"]]
    allowed = [group.exposure for group in capped.manifest.groups]
    assert all(read <= cap * (1 + 1e-4) for read, cap in zip(passes, allowed, strict=True))
    assert report.document["run_tokens"] == 60_000 or max(passes) == pytest.approx(2.0, rel=1e-3)


def test_a_folder_without_a_tokenizer_is_refused(case, tmp_path):
    with pytest.raises(AutomixerError, match=r"is neither a tokenizer\.json nor a folder that holds one"):
        export_mixture(**case.options(), format="megatron", out=tmp_path / "out", tokenizer=tmp_path)


def test_a_tokenizer_without_an_end_of_sequence_token_is_refused(case, tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(AutomixerError, match="has no end-of-sequence token"):
        export_mixture(**case.options(), format="megatron", out=tmp_path / "out", tokenizer=tmp_path)
