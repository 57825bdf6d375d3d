# pyright: reportMissingImports=false
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import Case
from automixer_assets_tests.export.readers import expected_documents
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH
from automixer_assets_tests.export.real.libraries import require_library

require_library("megatron.core", "megatron-core")


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    """Megatron builds datasets under torch.distributed only."""
    import torch

    store = tmp_path_factory.mktemp("store") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def exported(case: Case, out: Path) -> dict:
    report = export_mixture(**case.options(), format="megatron", out=out, sequence_length=SEQUENCE_LENGTH, batch_size=8)
    return report.document


def build(splits: Path, samples: int, cache: Path):
    """The training dataset of Megatron's own builder, as pretrain_gpt.py builds it from --per-split-data-args-path."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import get_blend_from_list
    from megatron.core.tokenizers.text.libraries.null_tokenizer import NullTokenizer

    named = json.loads(splits.read_text())
    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=SEQUENCE_LENGTH,
        blend_per_split=[get_blend_from_list(named[split]) for split in ("train", "valid", "test")],
        path_to_cache=str(cache),
        tokenizer=NullTokenizer(60_000),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        mid_level_dataset_surplus=0.005,
    )
    built = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()
    assert built[1] is None and built[2] is None
    return built[0]


def read(dataset, samples: int) -> np.ndarray:
    """Token ids [samples, SEQUENCE_LENGTH]."""
    return np.stack([np.asarray(dataset[i]["tokens"]) for i in range(samples)])


def test_the_library_reads_every_document(large, tmp_path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    exported(large, tmp_path / "out")
    for group in ("short", "tiny"):
        dataset = IndexedDataset(str(tmp_path / "out" / group))
        documents = [dataset[i].tolist() for i in range(len(dataset))]
        assert documents == list(expected_documents(large, group))
        assert len(dataset.document_indices) == len(documents) + 1


def test_tokens_come_out_in_the_mixtures_shares_and_groups_repeat(large, tmp_path):
    document = exported(large, tmp_path / "out")
    samples = document["run_tokens"] // SEQUENCE_LENGTH
    tokens = read(build(tmp_path / "out" / "per_split.json", samples, tmp_path / "cache"), samples)
    realised = large.token_shares(tokens.ravel())
    wanted = {group["name"]: group["share_of_tokens"] for group in document["groups"]}
    # Of a document's tokens the last is the end-of-document id, which belongs to no group here.
    content = {group["name"]: 1 - group["documents"] / group["tokens"] for group in document["groups"]}
    total = sum(wanted[name] * content[name] for name in wanted)
    assert realised.pop("unweighted") == 0
    for name, share in realised.items():
        assert share == pytest.approx(wanted[name] * content[name] / total, abs=0.01)
    assert_repeats_as_said(tokens, document)


def assert_repeats_as_said(tokens: np.ndarray, document: dict) -> None:
    """Each sequence of the third group is seen about as often as its passes say."""
    tiny = next(group for group in document["groups"] if group["name"] == "tiny")
    counts = Counter(tokens[(tokens // 1000 == 3) | (tokens == 0)].tolist())
    del counts[0]
    ids_in_group = tiny["tokens"] - tiny["documents"]
    assert sum(counts.values()) / ids_in_group == pytest.approx(tiny["passes"], rel=0.02)
    assert "starts a group again" in document["exhaustion"]


def test_caps_hold_over_the_whole_run(capped, tmp_path):
    document = exported(capped, tmp_path / "out")
    samples = document["run_tokens"] // SEQUENCE_LENGTH
    tokens = read(build(tmp_path / "out" / "per_split.json", samples, tmp_path / "cache"), samples)
    for index, group in enumerate(document["groups"]):
        seen = int((tokens // 1000 == index + 1).sum())
        assert seen / (group["tokens"] - group["documents"]) == pytest.approx(group["passes"], rel=0.01)
        assert group["passes"] <= 2.0001
