"""Models trained on random halves of the documents, and the losses that result.

A plain loop, one model after the other: training eight at once under torch.func.vmap took .69 to .96 of a loop's time
per model on one core (models of this size are bound by arithmetic, not by overhead), which is not worth its opacity.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from automixer_assets.files import write_atomically
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.train import learning_rate, make_optimizer
from automixer_assets.settings import Training
from benchmarks.influence_quality.settings import StudySettings
from benchmarks.influence_quality.worlds import Text, World

FIRST, SECOND = "first", "second"
"""The run that scores are judged by, and the one under other initial weights and order."""

OnStep = Callable[[int, int, LlamaForCausalLM], None]
"""(steps done, steps in all, model), after every step."""


def halves(settings: StudySettings) -> np.ndarray:
    """[M, n] bool: which half of the documents each model is trained on."""
    generator = np.random.default_rng([settings.seed, 1])
    chosen = np.zeros((settings.halves, settings.documents), dtype=bool)
    for row in chosen:
        row[generator.permutation(settings.documents)[: settings.documents // 2]] = True
    return chosen


def retrain(settings: StudySettings, world: World, folder: Path, on_progress: Callable[[int, int], None]) -> None:
    """Train what is missing, and write each model's losses as soon as they are known."""
    chosen = halves(settings)
    runs = [(FIRST, half) for half in range(settings.halves)]
    runs += [(SECOND, half) for half in range(settings.repeated_halves)]
    for done, (run, half) in enumerate(runs):
        path = losses_path(folder, run, half)
        if not path.exists():
            model = train(settings, world, np.flatnonzero(chosen[half]), run)
            write_atomically(path, (json.dumps(task_losses(model, world)) + "\n").encode())
        on_progress(done + 1, len(runs))


def losses_path(folder: Path, run: str, half: int) -> Path:
    return folder / "retrained" / f"{run}-{half:03d}.json"


def measured_losses(folder: Path, run: str, count: int) -> np.ndarray:
    """[M, m] task losses of the models of a run, in the order of the world's tasks."""
    return np.array([list(json.loads(losses_path(folder, run, half).read_text()).values()) for half in range(count)])


def train(
    settings: StudySettings, world: World, rows: np.ndarray, run: str = FIRST, on_step: OnStep | None = None
) -> LlamaForCausalLM:
    """A model trained on these documents alone, each of them once per epoch and weighing the same."""
    seed = 2 * settings.seed + (run == SECOND)
    training = _training(settings, len(rows))
    model = build_model(settings.architecture, world.vocabulary, settings.sequence_length, seed)
    optimizer = make_optimizer(model, training)
    for step, batch in enumerate(_batches(settings, rows, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training, step)
        loss = document_losses(model, [world.documents[row] for row in batch]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, training.steps, model)
    return model.eval()


def document_losses(model: LlamaForCausalLM, texts: Sequence[Text]) -> torch.Tensor:
    """Mean next-token loss of each text, [B]; no logit is formed at padding."""
    lengths = torch.tensor([len(text.tokens) for text in texts])  # [B]
    ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)  # [B, T], padded on the right
    for row, text in zip(ids, texts, strict=True):
        row[: len(text.tokens)] = torch.tensor(text.tokens)
    counted = torch.arange(1, ids.shape[1]) < lengths[:, None]  # [B, T - 1]
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[counted]  # [N, d]
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][counted], reduction="none")  # [N]
    weights = (1 / (lengths - 1))[:, None].expand_as(counted)[counted]  # [N]
    return torch.zeros(len(texts)).index_add(0, counted.nonzero()[:, 0], loss * weights)


@torch.no_grad()
def task_losses(model: LlamaForCausalLM, world: World) -> dict[str, float]:
    """Mean loss over each task's items."""
    return {task.name: float(document_losses(model, task.items).mean()) for task in world.tasks}


def _training(settings: StudySettings, n_documents: int) -> Training:
    steps = settings.epochs * math.ceil(n_documents / settings.batch_size)
    return Training(
        steps=steps,
        sequence_length=settings.sequence_length,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup_steps=steps // 10,
    )


def _batches(settings: StudySettings, rows: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Per epoch one order of all documents, of which each model sees its own."""
    for epoch in range(settings.epochs):
        order = np.random.default_rng([seed, 2, epoch]).permutation(settings.documents)
        kept = order[np.isin(order, rows)]
        yield from np.split(kept, range(settings.batch_size, len(kept), settings.batch_size))
