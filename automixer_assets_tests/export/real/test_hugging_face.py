from __future__ import annotations

import importlib.util
import itertools
from collections import Counter
from pathlib import Path

import pytest

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import STANDARD
from automixer_assets_tests.export.real.libraries import require_library

require_library("datasets", "datasets")


@pytest.fixture(scope="module")
def out(large, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "out"
    export_mixture(**large.options(), format="hf", out=folder)
    return folder


@pytest.fixture(scope="module")
def drawn(out) -> list[tuple[str, int]]:
    """(id, tokens) of the documents that the exported script gives in a run of the budget's tokens."""
    spec = importlib.util.spec_from_file_location("interleave", out / "interleave.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    documents = ((each["id"], each["n_tokens"]) for each in module.load_mixture(seed=3, shuffle_buffer=500))
    ends = itertools.accumulate(
        documents, lambda before, each: (each[0], each[1], before[2] + each[1]), initial=("", 0, 0)
    )
    next(ends)
    return [(doc_id, tokens) for doc_id, tokens, _ in itertools.takewhile(lambda each: each[2] <= 1_000_000, ends)]


def test_tokens_come_out_in_the_mixtures_shares(drawn):
    tokens: Counter[str] = Counter()
    for doc_id, count in drawn:
        tokens[doc_id.split("/")[0]] += count
    total = sum(tokens.values())
    shares = {name: count / total for name, count in tokens.items()}
    # 31,000 draws at random: three standard deviations of a share are .006
    assert shares == {group.name: pytest.approx(group.weight, abs=0.01) for group in STANDARD}


def test_a_group_that_runs_out_starts_again_and_each_pass_reads_every_document_once(drawn):
    tiny = [doc_id for doc_id, _ in drawn if doc_id.startswith("tiny/")]
    assert len(tiny) / 400 == pytest.approx(15, rel=0.05)
    for start in range(0, len(tiny) - 400, 400):
        assert len(set(tiny[start : start + 400])) == 400


def test_llama_factorys_arguments_give_the_same_shares(out):
    """Its own interleaving, which is datasets' under the arguments that it is given."""
    import json

    import yaml
    from datasets import interleave_datasets, load_dataset

    arguments = yaml.safe_load((out / "llamafactory.yaml").read_text())
    info = json.loads((out / "dataset_info.json").read_text())
    folders = [Path(arguments["dataset_dir"]) / info[name]["file_name"] for name in arguments["dataset"].split(",")]
    parts = [load_dataset("parquet", data_dir=str(folder), split="train") for folder in folders]
    probabilities = [float(probability) for probability in arguments["interleave_probs"].split(",")]
    mixed = interleave_datasets(parts, probabilities, seed=1, stopping_strategy="all_exhausted")
    tokens: Counter[str] = Counter()
    for doc_id, count in zip(mixed["id"], mixed["n_tokens"], strict=True):
        tokens[doc_id.split("/")[0]] += count
    for group in STANDARD:
        assert tokens[group.name] / sum(tokens.values()) == pytest.approx(group.weight, abs=0.015)
