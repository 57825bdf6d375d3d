"""Calibrating measures every kind of pass and of work, on this machine as it is. Speeds are not judged here."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from automixer_assets.planning import clock, work_probes
from automixer_assets.planning.calibration import calibrate, invented_texts
from automixer_assets.planning.clock import Clock
from automixer_assets.planning.constants import PassKind, WorkKind, load_constants, save_constants
from automixer_assets.planning.pass_probes import AFFORDABLE_SECONDS, Probe
from automixer_assets.planning.work_probes import Timed, work_speed
from automixer_assets.settings import Architecture, Training
from automixer_assets_tests.planning.machine import round_constants

TINY = Architecture(
    hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
)


def _probe(architecture: Architecture, **training: int) -> Probe:
    run = Training.model_validate({"steps": 1, "learning_rate": 1e-3, **training})
    return Probe(architecture, 300, run, directions=2, document_tokens=40, evaluation_batch=8)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little of everything as gives a number."""
    monkeypatch.setattr(clock, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(clock, "LEAST_ROUNDS", 1)
    monkeypatch.setattr(work_probes, "SCORED_ROWS", 500)
    monkeypatch.setattr(work_probes, "DISK_BYTES", 2**20)


@pytest.mark.usefixtures("hurried")
def test_every_kind_is_measured_and_nothing_is_left_behind(tmp_path: Path):
    said: list[str] = []
    probe = _probe(TINY, sequence_length=32, batch_size=2)
    made = calibrate([probe, probe], invented_texts(48), 300, tmp_path, said.append)
    assert sorted(each.kind for each in made.passes) == sorted(get_args(PassKind))
    assert sorted(each.kind for each in made.work) == sorted(get_args(WorkKind))
    assert len(said) >= len(get_args(PassKind))
    assert not list(tmp_path.iterdir())
    save_constants(made, tmp_path / "constants.json")
    assert load_constants(tmp_path / "constants.json") == made


def test_a_shape_that_takes_too_long_gets_fewer_sequences_then_fewer_layers():
    probe = _probe(Architecture.model_validate("350M"), sequence_length=2048, batch_size=32)
    shrunk = probe.shrunk(5e12, room=2**40)
    assert shrunk.training.batch_size < 32
    assert shrunk.architecture.num_hidden_layers == 32
    smaller = probe.shrunk(1e10, room=2**40)
    assert smaller.training.batch_size == 1
    assert smaller.architecture.num_hidden_layers < 32
    assert smaller.architecture.hidden_size == 960
    assert smaller._seconds(1e10) <= AFFORDABLE_SECONDS


def test_a_shape_that_does_not_fit_into_memory_is_shrunk():
    probe = _probe(Architecture.model_validate("350M"), sequence_length=128, batch_size=1)
    assert 16 * probe.shrunk(1e18, room=2**30).shape.parameters <= 2**29


def test_a_batch_whose_activations_do_not_fit_is_shrunk_before_layers_are():
    probe = _probe(Architecture.model_validate("350M"), sequence_length=2048, batch_size=32)
    shrunk = probe.shrunk(1e18, room=80 * 2**30)
    assert 1 < shrunk.training.batch_size < 32
    assert shrunk.architecture.num_hidden_layers == 32


def test_time_that_other_programs_took_does_not_count():
    import time

    watch = Clock()
    assert watch.once(lambda: time.sleep(0.2)) < 0.1
    assert watch.free_share < 0.5


def test_three_cases_give_speed_shard_and_artefact():
    def seconds(amount: float, shards: int) -> Timed:
        return Timed(amount, shards, 0.5 + 0.25 * shards + amount / 8)

    found = work_speed("joint", [seconds(10, 1), seconds(100, 1), seconds(100, 8)])
    assert (found.fixed_seconds, found.shard_seconds, found.per_second) == pytest.approx((0.5, 0.25, 8))
    constants = round_constants(work=[found])
    assert constants.work_seconds("joint", 40, shards=3) == pytest.approx(seconds(40, 3).seconds)
