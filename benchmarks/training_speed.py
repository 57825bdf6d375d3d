"""The training loop against a plain Hugging Face Trainer: python -m benchmarks.training_speed

Same weights to begin with, same packed batches, same fused AdamW, clipping and cosine; neither writes checkpoints.
The two alternate, so that a drifting machine slows both; medians of the paired ratios are reported with their range,
in CPU time and in wall time. Losses are compared too: a ratio between different computations would say nothing. On a
CPU one torch thread and float32; on a GPU bfloat16, and model FLOPs utilisation for the 75M and the 350M preset.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from automixer_assets.proxy.data import PackedTokens
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.optimizer import make_optimizer
from automixer_assets.proxy.schedule import learning_rate
from automixer_assets.proxy.train import train
from automixer_assets.settings import Architecture, Training
from benchmarks.tokens import random_corpus

BODY_5M = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SIZES: dict[str, tuple[Any, int, int, int]] = {
    # architecture, vocabulary, sequence length, batch size
    "demo 0.4M": ("demo", 1024, 64, 4),
    "5M body": (BODY_5M, 4096, 256, 8),
}
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 operations per second by the makers' data sheets; part of the device's name."""
WARM_UP_STEPS = 10


@dataclass(frozen=True)
class Timed:
    """One run: seconds of CPU and of wall time over the steps after the warm-up, and the mean loss of all."""

    cpu: float
    wall: float
    loss: float


class Clock:
    """Ticks after every step. Set-up is left out: the Trainer's would dominate runs as short as a benchmark's."""

    def __init__(self) -> None:
        self._begun, self._last = (0.0, 0.0), (0.0, 0.0)

    def tick(self, step: int) -> None:
        self._last = time.process_time(), time.perf_counter()
        if step == WARM_UP_STEPS:
            self._begun = self._last

    def timed(self, loss: float) -> Timed:
        return Timed(self._last[0] - self._begun[0], self._last[1] - self._begun[1], loss)


class Rows(torch.utils.data.Dataset):
    """The first `count` packed sequences, for the Trainer's data loader."""

    def __init__(self, batches: PackedTokens, count: int) -> None:
        self._batches, self._count = batches, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(self._batches.sequence(index))
        return {"input_ids": ids, "labels": ids}


def main() -> None:
    """Print a Markdown table of ratios, ours over the Trainer's; below 1 we are faster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="paired runs per row")
    parser.add_argument("--steps", type=int, default=60, help=f"steps per run, {WARM_UP_STEPS} untimed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | tokens per step | CPU time, ours / Trainer, median [min, max] | wall time | loss differs by |")
    print("|---|---|---|---|---|")
    for name, (shape, vocab_size, length, batch_size) in SIZES.items():
        training = settings(options.steps, length, batch_size)
        pairs = compare(Architecture.model_validate(shape), vocab_size, training, options.pairs)
        cpu = spread([ours.cpu / theirs.cpu for ours, theirs in pairs])
        wall = spread([ours.wall / theirs.wall for ours, theirs in pairs])
        difference = max(abs(ours.loss - theirs.loss) for ours, theirs in pairs)
        print(f"| {name} | {length * batch_size:,} | {cpu} | {wall} | {difference:.1e} |", flush=True)
    print_utilisation()


def settings(steps: int, length: int, batch_size: int) -> Training:
    return Training(
        steps=steps,
        sequence_length=length,
        batch_size=batch_size,
        learning_rate=1e-3,
        minimum_learning_rate_ratio=0.0,
        warmup_steps=0,
        resume_every=steps + 1,
        precision="bfloat16" if torch.cuda.is_available() else "float32",
    )


def compare(architecture: Architecture, vocab_size: int, training: Training, pairs: int) -> list[tuple[Timed, Timed]]:
    """Ours and the Trainer's, alternating; one pair before them warms up and is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = random_corpus(Path(folder), vocab_size, training.tokens + training.sequence_length)
        batches = PackedTokens(
            [corpus], sequence_length=training.sequence_length, batch_size=training.batch_size, seed=0
        )

        def model() -> Any:
            return build_model(architecture, vocab_size, training.sequence_length, seed=0)

        def pair(number: int) -> tuple[Timed, Timed]:
            first, second, out = model(), model(), Path(folder) / str(number)
            return ours(first, batches, training, out), theirs(second, batches, training)

        return [pair(number) for number in range(pairs + 1)][1:]


def ours(model: Any, batches: PackedTokens, training: Training, out: Path) -> Timed:
    clock = Clock()
    run = train(model, batches, training, out=out, checkpoint_steps=[], on_progress=lambda step, *_: clock.tick(step))
    return clock.timed(float(pl.read_parquet(run.history_path)["loss"].to_numpy().mean()))


def theirs(model: Any, batches: PackedTokens, training: Training) -> Timed:
    """The Trainer as its documentation sets it up; ours only the optimizer's groups, so that both decay alike."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return torch.utils.data.SequentialSampler(rows)

    clock, rows = Clock(), Rows(batches, training.steps * training.batch_size)

    class Ticks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock.tick(state.global_step)

    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=training.steps,
            per_device_train_batch_size=training.batch_size,
            max_grad_norm=training.gradient_clip,
            bf16=training.precision == "bfloat16",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        optimizer = make_optimizer(model.to(arguments.device), training)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(training, step) / training.learning_rate
        )
        trainer = InOrder(model=model, args=arguments, train_dataset=rows, optimizers=(optimizer, schedule))
        trainer.remove_callback(PrinterCallback)  # its log records would bury the table
        trainer.add_callback(Ticks())
        return clock.timed(trainer.train().training_loss)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def print_utilisation() -> None:
    """Model FLOPs utilisation at the paper's sequence length, where there is a GPU whose peak is known."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)
    if peak is None:
        print(f"\nModel FLOPs utilisation: skipped ({device}).")
        return
    print(f"\n| preset ({device}, bfloat16) | compiled | tokens/s | model FLOPs utilisation |\n|---|---|---|---|")
    for preset in ("75M", "350M"):
        for compiled in (False, True):
            speed, flops = gpu_speed(Architecture.model_validate(preset), compiled)
            print(f"| {preset} | {compiled} | {speed:,.0f} | {speed * flops / peak:.1%} |", flush=True)


def gpu_speed(architecture: Architecture, compiled: bool, vocab_size: int = 32_000) -> tuple[float, float]:
    """(tokens per second after a warm-up, operations per token) at the paper's length and batch."""
    training = Training.model_validate(
        {"preset": "paper", "steps": 60, "warmup_steps": 10, "micro_batch_size": 16, "compile": compiled}
    )
    clock: list[float] = []

    def tick(step: int, *_: float) -> None:
        clock.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        corpus = random_corpus(Path(folder), vocab_size, training.tokens + training.sequence_length)
        batches = PackedTokens([corpus], sequence_length=2048, batch_size=training.batch_size, seed=0)
        model = build_model(architecture, vocab_size, 2048, seed=0)
        train(model, batches, training, out=Path(folder) / "run", checkpoint_steps=[], on_progress=tick)
    seconds = (clock[-1] - clock[WARM_UP_STEPS]) / (len(clock) - 1 - WARM_UP_STEPS)
    return training.batch_size * training.sequence_length / seconds, flops_per_token(architecture, vocab_size, 2048)


def flops_per_token(architecture: Architecture, vocab_size: int, length: int) -> float:
    """Forward and backward, without recomputation: 6 per weight that multiplies, and causal attention.

    The embedding is a look-up and does not count; the head does, tied or not. Attention: two products of a query with
    on average length / 2 keys and values, 2 operations each, 3 passes, per layer and hidden unit: 6 x length.
    """
    tied = architecture.model_copy(update={"tie_word_embeddings": True})
    weights = tied.parameters(vocab_size)  # one vocabulary matrix: the head's
    return 6 * weights + 6 * architecture.num_hidden_layers * architecture.hidden_size * length


if __name__ == "__main__":
    main()
