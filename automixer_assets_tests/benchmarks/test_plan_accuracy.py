"""The table of predicted and recorded times is made from a finished state and writes nothing into it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from automixer_assets.planning.constants import save_constants
from automixer_assets_tests.command import create_finished_place
from automixer_assets_tests.planning.machine import round_constants
from benchmarks import plan_accuracy


def test_every_stage_that_was_made_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = create_finished_place(tmp_path / "place")
    save_constants(round_constants(), tmp_path / "constants.json")
    with place.active() as patch:
        patch.setattr(sys, "argv", ["plan_accuracy", str(tmp_path / "constants.json")])
        plan_accuracy.main()
    printed = capsys.readouterr().out
    for stage in ("snapshot_inventory", "tokenized_corpus", "joint_influence", "grouped_shards", "weight_manifest"):
        assert f"| {stage} | 1 |" in printed
    assert "of 6 stages within a factor of 1.5" in printed
