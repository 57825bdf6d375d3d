"""Claims about several processes: gloo, two of them, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.model import load_model
from automixer_assets.proxy.simulation import simulate
from automixer_assets.proxy.world import World
from automixer_assets.settings import Proxy
from automixer_assets_tests.proxy import several
from automixer_assets_tests.proxy.several import CASES
from automixer_assets_tests.world import tiny_settings

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-6
"""Relative, of float32 losses and gradient norms: sums are taken in another order."""


def torchrun(*arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    finished = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-5000:]


def require_same_run(one: Path, other: Path) -> None:
    a, b = (pl.read_parquet(folder / "training.parquet") for folder in (one, other))
    assert a.drop("loss", "gradient_norm").equals(b.drop("loss", "gradient_norm"))
    for column in ("loss", "gradient_norm"):
        np.testing.assert_allclose(a[column], b[column], rtol=TOLERANCE)
    for step in ("step-000005", "step-000012"):
        weights, others = (load_model(folder / "checkpoints" / step).state_dict() for folder in (one, other))
        for name, tensor in weights.items():
            torch.testing.assert_close(tensor, others[name], rtol=1e-4, atol=1e-5)
    config, other_config = ((folder / "checkpoints/step-000005/config.json").read_text() for folder in (one, other))
    assert config == other_config


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    torchrun(several.__file__, str(folder))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_run_that_one_makes(case: str, by_two: Path, tmp_path: Path) -> None:
    assert {path.name for path in (by_two / case).iterdir()} == {"training.parquet", "run.json", "checkpoints"}
    require_same_run(several.make(case, tmp_path).folder, by_two / case)


def test_the_script_makes_the_same_run_under_torchrun_and_dagster_adopts_it(tmp_path: Path, make_snapshot) -> None:
    corpus = make_snapshot(tmp_path / "corpus", [[5, 9, 1, 30], [3, 17, 2, 8, 40]], name="MW-2026-01").folder
    settings = tiny_settings()
    settings["proxies"]["demo"] |= {
        "snapshots": ["MW-2026-01"],
        "architecture": several.SHAPE,
        "training": several.TRAINING,
        "checkpoints": 2,
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    arguments = {"settings": tmp_path / "settings.yaml", "proxy": "demo", "corpus": corpus}
    folders = {"tokenizer": tmp_path, "out": tmp_path / "two"}
    options = [text for name, value in (arguments | folders).items() for text in (f"--{name}", str(value))]
    torchrun("-m", "automixer_assets.proxy", *options, "--sharded")
    proxy = Proxy.model_validate(settings["proxies"]["demo"])
    alone = simulate(proxy, [corpus], tmp_path, tmp_path / "alone")
    histories = [pl.read_parquet(folder / "training.parquet") for folder in (alone.folder, tmp_path / "two")]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=TOLERANCE)
    assert (tmp_path / "two" / "run.json").read_text() == (alone.folder / "run.json").read_text()


def test_each_rank_takes_its_rows_of_the_global_batch() -> None:
    batch = np.arange(6)[:, None]
    shares = [World(torch.device("cpu"), rank, 3).rows(batch) for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    assert {len(share) for share in shares} == {2}


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(AutomixerError, match="batch_size=32 cannot be shared equally by 3 processes"):
        World(torch.device("cpu"), 0, 3).require_equal_shares(32)
