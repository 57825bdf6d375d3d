"""Claims about the training loop; above all that a killed run goes on bit for bit."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.data import PackedTokens
from automixer_assets.proxy.model import build_model, load_model
from automixer_assets.proxy.train import TrainingRun, train
from automixer_assets.settings import Architecture, Training

STEPS = [5, 10, 12]


class Noise:
    """Random ids that depend on the step alone; a state that shows where it is."""

    def batch(self, step: int) -> np.ndarray:
        return np.random.default_rng(step).integers(0, 64, (2, 8))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def run(out: Path, architecture: Architecture, training: Training, **options: Any) -> TrainingRun:
    model = options.pop("model", None) or build_model(architecture, 64, 8, seed=1)
    return train(model, options.pop("batches", Noise()), training, out=out, checkpoint_steps=STEPS, **options)


def digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, architecture: Architecture, training: Training) -> TrainingRun:
    return run(tmp_path_factory.mktemp("unbroken"), architecture, training)


def test_a_run_leaves_history_checkpoints_and_no_resume_state(unbroken: TrainingRun, training: Training) -> None:
    history = pl.read_parquet(unbroken.history_path)
    assert history.columns == ["step", "tokens", "loss", "learning_rate", "gradient_norm"]
    assert history["step"].to_list() == list(range(1, 13))
    assert history["tokens"][-1] == unbroken.tokens == training.tokens
    assert history["loss"][-1] == unbroken.final_loss
    assert list(unbroken.checkpoints) == STEPS
    assert {path.name for path in unbroken.folder.iterdir()} == {"training.parquet", "run.json", "checkpoints"}
    document = json.loads((unbroken.folder / "run.json").read_text())
    assert document["parameters"] == unbroken.parameters
    assert document["checkpoint_steps"] == STEPS


def test_the_recorded_loss_is_the_loss_before_the_step(unbroken: TrainingRun) -> None:
    model = load_model(unbroken.checkpoints[5])
    ids = torch.from_numpy(Noise().batch(5))
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    assert pl.read_parquet(unbroken.history_path)["loss"][5] == pytest.approx(loss, rel=1e-6)


def test_the_loss_falls_on_data_that_can_be_learnt(
    tmp_path: Path, architecture: Architecture, training: Training
) -> None:
    class Same(Noise):
        def batch(self, step: int) -> np.ndarray:
            return super().batch(0)

    longer = training.model_copy(update={"steps": 60})
    losses = pl.read_parquet(run(tmp_path, architecture, longer, batches=Same()).history_path)["loss"]
    assert losses[-1] < 0.6 * losses[0]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    import torch
    torch.set_num_threads({threads})
    from automixer_assets.settings import Architecture, Training
    from automixer_assets_tests.proxy.test_train import run
    def kill_at_ten(step, *_):
        if step == 10:
            os.kill(os.getpid(), signal.SIGKILL)
    run(Path({out!r}), Architecture.model_validate_json({architecture!r}),
        Training.model_validate_json({training!r}), on_progress=kill_at_ten)
"""


def test_a_run_killed_with_sigkill_goes_on_bit_for_bit(
    tmp_path: Path, architecture: Architecture, training: Training, unbroken: TrainingRun
) -> None:
    program = textwrap.dedent(KILLED).format(
        root=str(Path(__file__).parents[2]),
        threads=torch.get_num_threads(),
        out=str(tmp_path / "run"),
        architecture=architecture.model_dump_json(),
        training=training.model_dump_json(),
    )
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "run" / "training.parquet").exists()
    assert [path.name for path in (tmp_path / "run" / "resume").iterdir()] == ["step-000008"]
    other = build_model(architecture, 64, 8, seed=99)  # the state, not the model handed over, decides
    resumed = run(tmp_path / "run", architecture, training, model=other)
    assert resumed.resumed_from == 8
    assert digests(resumed.folder) == digests(unbroken.folder)


@pytest.mark.parametrize("stop", range(1, 12))
def test_wherever_a_run_stops_it_ends_the_same(
    stop: int, tmp_path: Path, architecture: Architecture, training: Training, unbroken: TrainingRun
) -> None:
    def stop_at(step: int, *_: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, architecture, training, on_progress=stop_at)
    assert digests(run(tmp_path, architecture, training).folder) == digests(unbroken.folder)


def test_tied_embeddings_resume_too(tmp_path: Path, architecture: Architecture, training: Training) -> None:
    tied = architecture.model_copy(update={"tie_word_embeddings": True})
    whole = run(tmp_path / "whole", tied, training)

    def stop_at_seven(step: int, *_: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", tied, training, on_progress=stop_at_seven)
    assert digests(run(tmp_path / "broken", tied, training).folder) == digests(whole.folder)


def test_packed_tokens_and_a_stream_resume(
    tmp_path: Path, architecture: Architecture, training: Training, snapshot: Any
) -> None:
    def packed() -> PackedTokens:
        return PackedTokens([snapshot], sequence_length=8, batch_size=2, seed=0)

    class Stream:
        def __init__(self) -> None:
            self.next = 0

        def __iter__(self) -> Any:
            while True:
                self.next += 1
                yield torch.from_numpy(packed().sequence(self.next - 1))

        def state_dict(self) -> dict[str, Any]:
            return {"next": self.next}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.next = state["next"]

    def stop_at_nine(step: int, *_: float) -> None:
        if step == 9:
            raise KeyboardInterrupt

    whole = run(tmp_path / "packed", architecture, training, batches=packed())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stream", architecture, training, batches=Stream(), on_progress=stop_at_nine)
    resumed = run(tmp_path / "stream", architecture, training, batches=Stream())
    described_by_its_source = {"run.json": ""}
    assert digests(resumed.folder) | described_by_its_source == digests(whole.folder) | described_by_its_source


def test_nothing_is_pickled(tmp_path: Path, architecture: Architecture, training: Training) -> None:
    def look(step: int, *_: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, architecture, training, on_progress=look)
    files = [path for path in (tmp_path / "resume").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".parquet"}
    with safe_open(next(path for path in files if path.suffix == ".safetensors"), "pt") as tensors:
        assert "exp_avg.lm_head.weight" in tensors.keys()  # noqa: SIM118


def test_other_settings_do_not_continue_a_run(tmp_path: Path, architecture: Architecture, training: Training) -> None:
    def stop(step: int, *_: float) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, architecture, training, on_progress=stop)
    with pytest.raises(AutomixerError, match="left by a run with other settings"):
        run(tmp_path, architecture, training.model_copy(update={"learning_rate": 0.02}))


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path, architecture: Architecture, training: Training) -> None:
    finished = run(tmp_path, architecture, training)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = run(tmp_path, architecture, training, on_progress=lambda *_: pytest.fail("it trained again"))
    assert again == finished
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    with pytest.raises(AutomixerError, match="holds a finished run with other settings"):
        run(tmp_path, architecture, training.model_copy(update={"learning_rate": 0.02}))


def test_losses_that_jump_and_stay_stop_the_run(
    tmp_path: Path, architecture: Architecture, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automixer_assets.proxy.divergence.BASELINE_STEPS", 5)
    model = build_model(architecture, 64, 8, seed=1)

    def spoil(step: int, *_: float) -> None:
        if step == 7:
            with torch.no_grad():
                model.lm_head.weight *= 1000

    patient = training.model_copy(update={"spike_steps": 3, "spike_deviations": 3.0})
    with pytest.raises(AutomixerError, match=r"jumped at step 8 .* for 3 steps: the last good checkpoint is .*-000005"):
        run(tmp_path, architecture, patient, model=model, on_progress=spoil)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, architecture: Architecture, training: Training) -> None:
    model = build_model(architecture, 64, 8, seed=1)

    def spoil(step: int, *_: float) -> None:
        if step == 7:
            with torch.no_grad():
                model.lm_head.weight[0, 0] = math.nan

    with pytest.raises(AutomixerError, match=r"at step 8 .* last good checkpoint is .*step-000005"):
        run(tmp_path, architecture, training, model=model, on_progress=spoil)


def test_a_checkpoint_outside_the_run_is_refused(
    tmp_path: Path, architecture: Architecture, training: Training
) -> None:
    with pytest.raises(AutomixerError, match="checkpoint step 13 lies outside the run's steps 1 to 12"):
        train(build_model(architecture, 64, 8, 0), Noise(), training, out=tmp_path, checkpoint_steps=[13])


def test_callers_are_told_of_progress_and_checkpoints(
    tmp_path: Path, architecture: Architecture, training: Training
) -> None:
    steps: list[int] = []
    kept: list[tuple[int, bool]] = []
    run(
        tmp_path,
        architecture,
        training,
        on_progress=lambda step, loss, rate, speed: steps.append(step) or None,
        on_checkpoint=lambda step, folder: kept.append((step, (folder / "model.safetensors").is_file())),
    )
    assert steps == list(range(1, 13))
    assert kept == [(step, True) for step in STEPS]


def test_bfloat16_keeps_float32_weights(
    tmp_path: Path, architecture: Architecture, training: Training, unbroken: TrainingRun
) -> None:
    half = run(tmp_path, architecture, training.model_copy(update={"precision": "bfloat16"}))
    assert load_model(half.checkpoints[12]).dtype == torch.float32
    assert half.final_loss != unbroken.final_loss
    assert half.final_loss == pytest.approx(unbroken.final_loss, rel=0.02)
