"""The training loop (paper, section 3: the simulation run; section 6: target runs).

One process, one device. A run that was killed goes on where its resume state was written; on a CPU it then gives
the same losses and the same checkpoint bytes as a run that was never killed.
"""

from __future__ import annotations

import json
import math
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
from automixer_assets.proxy.resume import load_resume, remove_resume, save_resume
from automixer_assets.settings import Training

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

HISTORY_SCHEMA = {
    "step": pl.Int64,
    "tokens": pl.Int64,
    "loss": pl.Float64,
    "learning_rate": pl.Float64,
    "gradient_norm": pl.Float64,
}

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
        return self.folder / "training.parquet"


@dataclass
class _State:
    """What the loop carries from step to step."""

    model: PreTrainedModel
    optimizer: Optimizer
    batches: Batches
    training: Training
    out: Path
    fingerprint: dict[str, Any]
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
    device: torch.device | str | None = None,
) -> TrainingRun:
    """Train `model` in place for `training.steps` steps and keep checkpoints below `out`.

    `batches` has `batch(step)` giving ids [batch_size, sequence_length] (`PackedTokens`), or is an iterable of
    sequences with `state_dict` and `load_state_dict`. `out` receives `training.parquet` (a row per step: step,
    tokens, loss in nats, learning rate, gradient norm before clipping), `run.json`, and `checkpoints/step-NNNNNN/`
    with the tokenizer's files. While it runs, `out/resume/` holds what continuing needs.

    Raises:
        AutomixerError: the loss stopped being a number, the data ended early, a checkpoint step lies outside the
            run, or `out` holds the resume state of a run with other settings.
    """
    kept = _checked_steps(checkpoint_steps, training)
    state = _begin(model, as_batches(batches, training.batch_size), training, out, kept, device)
    resumed_from = _resume(state)
    model.train()
    while state.step < training.steps:
        began = time.perf_counter()
        row = _one_step(state)
        if on_progress is not None:
            speed = training.batch_size * training.sequence_length / (time.perf_counter() - began)
            on_progress(state.step, row["loss"], row["learning_rate"], speed)
        _keep(state, kept, tokenizer_folder, on_checkpoint)
    model.eval()
    return _finish(state, kept, resumed_from)


def learning_rate(training: Training, step: int) -> float:
    """Learning rate of the step with that number (from 0): linear warm-up, then cosine to the minimum, or constant."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - training.warmup_steps) / (training.steps - training.warmup_steps)
    minimum = training.minimum_learning_rate_ratio
    return training.learning_rate * (minimum + (1 - minimum) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: PreTrainedModel, training: Training) -> Optimizer:
    """AdamW with weight decay on the linear layers' matrices only.

    Norm gains are not decayed, as everywhere; neither are token embeddings: decay shrinks the rows of rare tokens,
    which only frequent tokens' gradients could restore (OLMo 2 measured steadier training without). A head tied to
    the embedding counts as embedding.
    """
    from torch.optim import AdamW

    embedding = model.get_input_embeddings().weight
    decayed = [p for p in model.parameters() if p.ndim >= 2 and p is not embedding]
    others = [p for p in model.parameters() if p.ndim < 2 or p is embedding]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # Fused and unfused updates differ in the last bit: one of them always, or a resumed run would differ.
    return AdamW(groups, lr=training.learning_rate, betas=(training.beta1, training.beta2), eps=1e-8, fused=True)


def _begin(
    model: PreTrainedModel,
    batches: Batches,
    training: Training,
    out: Path,
    kept: list[int],
    device: torch.device | str | None,
) -> _State:
    from automixer_assets.proxy.model import automatic_device

    out.mkdir(parents=True, exist_ok=True)
    model.to(device or automatic_device())  # pyright: ignore[reportArgumentType]
    fingerprint = {
        # Neither where it runs nor how often it saves changes the result.
        "training": training.model_dump(mode="json", exclude={"resume_every"}),
        "shapes": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
        "checkpoint_steps": kept,
    }
    return _State(model, make_optimizer(model, training), batches, training, out, fingerprint)


def _resume(state: _State) -> int | None:
    resumed = load_resume(state.out, state.model, state.optimizer, fingerprint=state.fingerprint)
    if resumed is None:
        return None
    state.step, state.history = resumed.step, resumed.history
    state.batches.load_state_dict(resumed.data)
    return resumed.step


def _one_step(state: _State) -> dict[str, Any]:
    """One optimizer step; returns and records its row of the history."""
    import torch

    rate = learning_rate(state.training, state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    ids = torch.as_tensor(state.batches.batch(state.step), dtype=torch.long).to(state.model.device)  # [B, S]
    loss = _loss(state.model, ids, state.training.precision)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.training.gradient_clip)
    row = {"loss": loss.item(), "learning_rate": rate, "gradient_norm": norm.item()}
    _refuse_nan(state, row)
    state.optimizer.step()
    state.step += 1
    tokens = state.step * state.training.batch_size * state.training.sequence_length
    state.history.append({"step": state.step, "tokens": tokens, **row})
    return row


def _loss(model: PreTrainedModel, ids: torch.Tensor, precision: str) -> torch.Tensor:
    """Mean cross-entropy in nats over the predicted tokens of ids [B, S]; float32 whatever the precision."""
    import torch

    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(input_ids=ids, use_cache=False).logits  # [B, S, V]
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())


def _refuse_nan(state: _State, row: dict[str, Any]) -> None:
    if math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"]):
        return
    last = max(list_checkpoints(state.out).items(), default=None)
    good = f"the last good checkpoint is {last[1]}" if last else "there is no earlier checkpoint"
    raise AutomixerError(
        f"loss {row['loss']} and gradient norm {row['gradient_norm']} at step {state.step + 1} of {state.out}: {good}; "
        "lower training.learning_rate or lengthen training.warmup_steps"
    )


def _keep(state: _State, kept: list[int], tokenizer: Path | None, on_checkpoint: CheckpointCallback | None) -> None:
    """After a step: its checkpoint, if it is kept, and the resume state, if it is due."""
    if state.step in kept:
        folder = write_checkpoint(state.model, state.out, state.step, tokenizer)
        if on_checkpoint is not None:
            on_checkpoint(state.step, folder)
    due = state.step in kept or state.step % state.training.resume_every == 0
    if due and state.step < state.training.steps:  # the last step is followed at once by the run's end
        save_resume(
            state.out,
            state.step,
            state.model,
            state.optimizer,
            state.history_table(),
            fingerprint=state.fingerprint,
            data=state.batches.state_dict(),
        )


def _finish(state: _State, kept: list[int], resumed_from: int | None) -> TrainingRun:
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    document = {
        "training": state.training.model_dump(mode="json"),
        "parameters": parameters,
        "tokens": state.training.tokens,
        "checkpoint_steps": kept,
    }
    with atomic_path(state.out / "training.parquet") as path:
        state.history_table().write_parquet(path)
    with atomic_path(state.out / "run.json") as path:
        path.write_text(json.dumps(document, indent=1) + "\n")
    remove_resume(state.out)
    checkpoints = {step: path for step, path in list_checkpoints(state.out).items() if step in kept}
    final_loss = state.history[-1]["loss"]
    return TrainingRun(
        state.out, state.training.steps, state.training.tokens, parameters, final_loss, checkpoints, resumed_from
    )


def _checked_steps(steps: Iterable[int], training: Training) -> list[int]:
    kept = sorted(set(steps))
    outside = [step for step in kept if not 0 < step <= training.steps]
    if outside:
        raise AutomixerError(f"checkpoint step {outside[0]} lies outside the run's steps 1 to {training.steps}")
    return kept
