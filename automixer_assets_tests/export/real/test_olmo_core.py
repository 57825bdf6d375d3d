# pyright: reportMissingImports=false
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import Case
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH
from automixer_assets_tests.export.real.libraries import require_library

require_library("olmo_core", "ai2-olmo-core")


def exported(case: Case, out: Path) -> dict[str, Any]:
    report = export_mixture(
        **case.options(), format="olmo-core", out=out, sequence_length=SEQUENCE_LENGTH, batch_size=8
    )
    return report.document


def tokens_of(out: Path, work: Path) -> np.ndarray:
    """Token ids that OLMo-core's dataset gives, built by the very code of the hand-over sheet."""
    code = re.search(r"```python\n(.*?)```", (out / "MIXTURE.md").read_text(), re.DOTALL)
    assert code is not None
    work.mkdir()
    names: dict[str, Any] = {}
    exec(code.group(1).replace("YOUR_WORK_FOLDER", str(work)).replace("processes=16", "processes=1"), names)
    dataset = names["dataset"]
    dataset.prepare()
    return np.concatenate([np.asarray(dataset[i]["input_ids"]) for i in range(len(dataset))])


def passes_of(tokens: np.ndarray, document: dict[str, Any]) -> dict[str, float]:
    return {
        group["name"]: int((tokens // 1000 == index + 1).sum()) / (group["tokens"] - group["documents"])
        for index, group in enumerate(document["groups"])
    }


def test_tokens_come_out_in_the_mixtures_shares(large, tmp_path):
    document = exported(large, tmp_path / "out")
    tokens = tokens_of(tmp_path / "out", tmp_path / "work")
    assert len(tokens) == pytest.approx(document["run_tokens"], rel=0.01)
    assert not (tokens // 1000 == 4).any(), "the group without weight"
    passes = passes_of(tokens, document)
    for group in document["groups"]:
        taken = passes[group["name"]] * group["tokens"]
        assert taken / len(tokens) == pytest.approx(group["share_of_tokens"], abs=0.01)


def test_caps_hold_over_the_whole_run(capped, tmp_path):
    document = exported(capped, tmp_path / "out")
    passes = passes_of(tokens_of(tmp_path / "out", tmp_path / "work"), document)
    for group in document["groups"]:
        assert passes[group["name"]] == pytest.approx(group["passes"], rel=0.02)
        assert passes[group["name"]] <= 2.0 * 1.02


def test_a_run_that_would_repeat_more_than_planned_is_refused(large, tmp_path):
    from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList
    from olmo_core.exceptions import OLMoConfigurationError

    document = exported(large, tmp_path / "out")
    longer = SourceMixtureDatasetConfig(
        source_list=SourceMixtureList.from_dict(yaml.safe_load((tmp_path / "out" / "source_mixture.yaml").read_text())),
        requested_tokens=int(document["run_tokens"] * 1.05),
        global_batch_size=8 * SEQUENCE_LENGTH,
    )
    with pytest.raises(OLMoConfigurationError, match="Insufficient tokens for source"):
        longer.build(npdtype=np.uint16, sequence_length=SEQUENCE_LENGTH)
