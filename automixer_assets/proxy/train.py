"""The training loop (paper, section 3: the simulation run; section 6: target runs).

One process, or several under torchrun (`world.py`). A run that was killed goes on where its resume state was
written; in one process on a CPU it then gives the same losses and the same checkpoint bytes as one never killed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path
from automixer_assets.proxy.checkpoints import list_checkpoints, write_checkpoint
from automixer_assets.proxy.data import Batches, as_batches
from automixer_assets.proxy.divergence import refuse_divergence
from automixer_assets.proxy.optimizer import accumulate_gradients, clip_gradients, make_optimizer, recompute_activations
from automixer_assets.proxy.resume import load_resume, remove_resume, save_resume
from automixer_assets.proxy.schedule import learning_rate
from automixer_assets.proxy.world import World, alone
from automixer_assets.settings import Training

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

HISTORY_SCHEMA = {
    "step": pl.Int64,
    "tokens": pl.Int64,
    "loss": pl.Float64,
    "learning_rate": pl.Float64,
    "gradient_norm": pl.Float64,
}
RUN_FILE, HISTORY_FILE = "run.json", "training.parquet"

ProgressCallback = Callable[[int, float, float, float], None]
"""(step, loss, learning rate, tokens per second), after every step."""
CheckpointCallback = Callable[[int, Path], None]
"""(step, folder), after a checkpoint is complete on disk."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished run. `checkpoints` maps steps to Hugging Face folders; `resumed_from` is None for an unbroken run."""

    folder: Path
    steps: int
    tokens: int
    parameters: int
    final_loss: float
    checkpoints: dict[int, Path]
    resumed_from: int | None

    @property
    def history_path(self) -> Path:
        return self.folder / HISTORY_FILE


@dataclass
class _State:
    """What the loop carries from step to step."""

    model: PreTrainedModel
    module: Any  # what is called instead of the model: itself, or as the world and the compiler wrap it
    optimizer: Optimizer
    batches: Batches
    training: Training
    world: World
    out: Path
    kept: list[int]
    identity: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0

    def history_table(self) -> pl.DataFrame:
        return pl.DataFrame(self.history, schema=HISTORY_SCHEMA)


def train(
    model: PreTrainedModel,
    batches: Any,
    training: Training,
    *,
    out: Path,
    checkpoint_steps: Iterable[int],
    tokenizer_folder: Path | None = None,
    on_progress: ProgressCallback | None = None,
    on_checkpoint: CheckpointCallback | None = None,
    world: World | None = None,
) -> TrainingRun:
    """Train `model` in place for `training.steps` steps and keep checkpoints below `out`.

    `batches` has `batch(step)` giving ids [batch_size, sequence_length] (`PackedTokens`), or is an iterable of
    sequences with `state_dict` and `load_state_dict`. `out` receives `training.parquet` (a row per step: step,
    tokens, loss in nats, learning rate, gradient norm before clipping), `run.json`, and `checkpoints/step-NNNNNN/`
    with the tokenizer's files. While it runs, `out/resume/` holds what continuing needs. A run that is finished
    already is returned as it is. Without `world` it runs in this process alone, on the first CUDA device if any.

    Raises:
        AutomixerError: the run diverged, the data ended early, a checkpoint step lies outside the run, or `out`
            holds a run with other settings or data.
    """
    kept = _checked_steps(checkpoint_steps, training)
    batches = as_batches(batches, training.batch_size)
    state = _begin(model, batches, training, out, kept, world or alone())
    if _finished(state):
        return _summary(state, None)
    resumed_from = _resume(state)
    model.train()
    while state.step < training.steps:
        began = time.perf_counter()
        row = _one_step(state)
        if on_progress is not None and state.world.writes:
            speed = training.batch_size * training.sequence_length / (time.perf_counter() - began)
            on_progress(state.step, row["loss"], row["learning_rate"], speed)
        _keep(state, tokenizer_folder, on_checkpoint)
    model.eval()
    _finish(state)
    return _summary(state, resumed_from)


def _begin(
    model: PreTrainedModel, batches: Batches, training: Training, out: Path, kept: list[int], world: World
) -> _State:
    import torch

    world.require_equal_shares(training.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    shapes = json.dumps({name: list(parameter.shape) for name, parameter in model.named_parameters()})
    identity = {
        # Not where it runs, nor how often it saves: only what the weights depend on.
        "training": training.identity,
        "shapes_sha256": hashlib.sha256(shapes.encode()).hexdigest(),
        "checkpoint_steps": kept,
    }
    model.to(world.device)  # pyright: ignore[reportArgumentType]
    if training.activation_checkpointing:
        recompute_activations(model)
    module = world.spread(model)
    optimizer = make_optimizer(model, training)  # after sharding has replaced the parameters
    called = torch.compile(module) if training.compile else module
    return _State(model, called, optimizer, batches, training, world, out, kept, identity)


def _finished(state: _State) -> bool:
    """True when `out` holds the whole run already."""
    path = state.out / RUN_FILE
    if not path.exists():
        return False
    document = json.loads(path.read_text())
    if any(document[key] != value for key, value in state.identity.items()):
        raise AutomixerError(
            f"{state.out} holds a finished run with other settings; delete it or choose another folder"
        )
    state.batches.load_state_dict(document["data"])
    state.history = pl.read_parquet(state.out / HISTORY_FILE).to_dicts()
    if state.world.writes:
        remove_resume(state.out)
    return True


def _resume(state: _State) -> int | None:
    resumed = load_resume(state.out, state.model, state.optimizer, state.world, identity=state.identity)
    if resumed is None:
        return None
    state.step, state.history = resumed.step, resumed.history
    state.batches.load_state_dict(resumed.data)
    return resumed.step


def _one_step(state: _State) -> dict[str, Any]:
    """One optimizer step; returns and records its row of the history."""
    import torch

    training, world = state.training, state.world
    rate = learning_rate(training, state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    mean_loss = accumulate_gradients(state.module, world.rows(state.batches.batch(state.step)), training, world)
    norm = clip_gradients(state.model, training.gradient_clip, world)
    loss, gradient_norm = torch.stack([mean_loss, norm]).tolist()  # waits for the device once, not twice
    tokens = (state.step + 1) * training.batch_size * training.sequence_length
    row = {
        "step": state.step + 1,
        "tokens": tokens,
        "loss": loss,
        "learning_rate": rate,
        "gradient_norm": gradient_norm,
    }
    state.history.append(row)
    refuse_divergence(state.history, training, state.out)
    state.optimizer.step()
    state.step += 1
    return row


def _keep(state: _State, tokenizer: Path | None, on_checkpoint: CheckpointCallback | None) -> None:
    """After a step: its checkpoint, if it is kept, and the resume state, if it is due."""
    if state.step in state.kept:
        folder = write_checkpoint(state.model, state.out, state.step, tokenizer, state.world)
        if on_checkpoint is not None and state.world.writes:
            on_checkpoint(state.step, folder)
    due = state.step in state.kept or state.step % state.training.resume_every == 0
    if due and state.step < state.training.steps:  # the last step is followed at once by the run's end
        save_resume(
            state.out,
            state.step,
            state.model,
            state.optimizer,
            state.history_table(),
            state.world,
            identity=state.identity,
            data=state.batches.state_dict(),
        )


def _finish(state: _State) -> None:
    if state.world.writes:
        document = {
            **state.identity,
            "parameters": _parameters(state.model),
            "tokens": state.training.tokens,
            "data": state.batches.state_dict(),
        }
        with atomic_path(state.out / HISTORY_FILE) as path:
            state.history_table().write_parquet(path)
        with atomic_path(state.out / RUN_FILE) as path:
            path.write_text(json.dumps(document, indent=1) + "\n")
        remove_resume(state.out)
    state.world.wait()


def _summary(state: _State, resumed_from: int | None) -> TrainingRun:
    training = state.training
    checkpoints = {step: path for step, path in list_checkpoints(state.out).items() if step in state.kept}
    return TrainingRun(
        state.out,
        training.steps,
        training.tokens,
        _parameters(state.model),
        state.history[-1]["loss"],
        checkpoints,
        resumed_from,
    )


def _parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _checked_steps(steps: Iterable[int], training: Training) -> list[int]:
    kept = sorted(set(steps))
    outside = [step for step in kept if not 0 < step <= training.steps]
    if outside:
        raise AutomixerError(f"checkpoint step {outside[0]} lies outside the run's steps 1 to {training.steps}")
    return kept
