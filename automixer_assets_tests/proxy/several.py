"""Runs that are made alone and by two processes. Started by torchrun, this file makes them; tests import the cases."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.train import TrainingRun, train
from automixer_assets.proxy.world import World, joined_world
from automixer_assets.settings import Architecture, Training

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TRAINING = {
    "steps": 12,
    "sequence_length": 8,
    "batch_size": 4,
    "learning_rate": 0.01,
    "warmup_steps": 3,
    "resume_every": 4,
    "gradient_clip": 0.5,
}
THRIFTY = {"micro_batch_size": 1, "activation_checkpointing": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[bool, ...]]] = {
    # options of the shape, options of the training, sharded or not (a second entry: killed, and resumed like that)
    "copies": ({}, {}, (False,)),
    "shards": ({}, {}, (True,)),
    "copies, accumulated": ({}, THRIFTY, (False,)),
    "shards, accumulated, tied": ({"tie_word_embeddings": True}, THRIFTY, (True,)),
    "copies, then shards": ({}, {}, (False, True)),
    "shards, then copies": ({"tie_word_embeddings": True}, {}, (True, False)),
}


class Interrupted(Exception):
    """Raised in every process at once, as a kill would end them all."""


class Noise:
    """Random ids that depend on the step alone; the run ends before step `until`."""

    def __init__(self, until: int | None = None) -> None:
        self.until = until

    def batch(self, step: int) -> np.ndarray:
        if step == self.until:
            raise Interrupted
        return np.random.default_rng(step).integers(0, 64, (4, 8))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def make(case: str, out: Path, world: World | None = None, until: int | None = None) -> TrainingRun:
    shape, options, _ = CASES[case]
    model = build_model(Architecture.model_validate(SHAPE | shape), 64, 8, seed=1)
    training = Training.model_validate(TRAINING | options)
    return train(model, Noise(until), training, out=out / case, checkpoint_steps=[5, 12], world=world)


def main(out: Path) -> None:
    with joined_world() as world:
        for case, (_, _, kinds) in CASES.items():
            for number, sharded in enumerate(kinds, start=1):
                try:
                    make(case, out, replace(world, sharded=sharded), None if number == len(kinds) else 7)
                except Interrupted:
                    world.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
