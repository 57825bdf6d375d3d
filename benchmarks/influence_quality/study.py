"""One study from its settings to its files; a killed one goes on where it stopped."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from benchmarks.influence_quality import worlds
from benchmarks.influence_quality.one_step import write_loss_changes
from benchmarks.influence_quality.retraining import retrain
from benchmarks.influence_quality.scoring import (
    Utilities,
    all_utilities,
    fitted,
    full_models,
    scored,
    write_utilities,
)
from benchmarks.influence_quality.settings import StudySettings, claim

SCORES, VARIANTS, ONE_STEP = "scores.parquet", "variants.parquet", "one_step.parquet"


def run_study(settings: StudySettings, out: Path, *, variants: bool = False) -> None:
    """Score, step and retrain, as far as it is not done; `variants` adds other dampings and layer sets."""
    torch.set_num_threads(1)
    folder = settings.folder(out)
    claim(folder, settings)
    world = worlds.build(settings)
    wanted = {SCORES, ONE_STEP} | ({VARIANTS} if variants else set())
    if not all((folder / name).exists() for name in wanted):
        models = full_models(settings, world)
        write_utilities(folder / SCORES, all_utilities(settings, world, models), world)
        write_loss_changes(folder / ONE_STEP, settings, world, models[-1])
        if variants:
            write_utilities(folder / VARIANTS, variant_utilities(world, models[-1]), world)

    def report(done: int, total: int) -> None:
        if done % 8 == 0 or done == total:
            print(f"{folder}: {done} of {total} models, {time.process_time():.0f} CPU-s so far", flush=True)

    retrain(settings, world, folder, report)


def variant_utilities(world: worlds.World, model: LlamaForCausalLM) -> Utilities:
    """Other dampings and layer sets, at the final model."""
    dampings = {
        f"{name} {damping:g}": fitted(model, world, curvature, damping)
        for name, curvature in (("DataInf", "datainf"), ("KFAC", "kfac"))
        for damping in (0.001, 0.01, 0.1, 1.0, 10.0)
    }
    with_block = {
        f"{name} with last block": fitted(model, world, curvature, layers=("embedding", "head", "last_block"))
        for name, curvature in (("DataInf", "datainf"), ("GradDot", "identity"))
    }
    utilities = scored(model, world, dampings) | scored(model, world, with_block)
    for layer in () if model.config.tie_word_embeddings else ("embedding", "head"):
        alone = {
            f"{name}, {layer} only": fitted(model, world, curvature, layers=(layer,))
            for name, curvature in (("DataInf", "datainf"), ("KFAC", "kfac"))
        }
        utilities |= scored(model, world, alone)
    return {name: utility for name, utility in utilities.items() if name != "loss"}
