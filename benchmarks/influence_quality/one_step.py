"""One gradient step on one document at the final model, and what it does to each task's loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from transformers import LlamaForCausalLM

from automixer_assets.files import atomic_path
from benchmarks.influence_quality.retraining import document_losses, task_losses
from benchmarks.influence_quality.settings import StudySettings
from benchmarks.influence_quality.worlds import World


def stepped_documents(settings: StudySettings) -> np.ndarray:
    """Rows of the documents that are tried, [P]."""
    generator = np.random.default_rng([settings.seed, 4])
    return np.sort(generator.permutation(settings.documents)[: settings.stepped_documents])


def write_loss_changes(path: Path, settings: StudySettings, world: World, model: LlamaForCausalLM) -> None:
    """A row per document, a column per task: loss after the step minus before."""
    before = task_losses(model, world)
    changes = [_changes(model, world, row, settings.step_size, before) for row in stepped_documents(settings)]
    with atomic_path(path) as temporary:
        pl.DataFrame(changes).write_parquet(temporary)


def read_loss_changes(path: Path) -> np.ndarray:
    """[P, m]"""
    return pl.read_parquet(path).to_numpy()


def _changes(
    model: LlamaForCausalLM, world: World, row: int, step_size: float, before: dict[str, float]
) -> dict[str, float]:
    parameters = list(model.parameters())
    loss = document_losses(model, [world.documents[row]]).sum()
    gradients = torch.autograd.grad(loss, parameters)
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=step_size)
        after = task_losses(model, world)
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return {task: after[task] - before[task] for task in before}
