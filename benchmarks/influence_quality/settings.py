"""What a study is made of. Its folder records it, so that a study is never continued under other settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from automixer_assets.errors import AutomixerError
from automixer_assets.files import write_atomically
from automixer_assets.settings import Architecture

WorldName = Literal["micro", "real"]


@dataclass(frozen=True)
class StudySettings:
    """One study: its world, sizes, and the training that all of its models share."""

    world: WorldName
    seed: int
    documents: int = 480
    halves: int = 64
    repeated_halves: int = 16  # of these, trained a second time under other initial weights and order
    stepped_documents: int = 96
    items_per_task: int = 24
    vocabulary: int = 1024
    sequence_length: int = 64
    hidden_size: int = 48
    tied: bool = False
    epochs: int = 4
    batch_size: int = 8
    learning_rate: float = 2e-3
    step_size: float = 0.002  # of the single gradient step

    @property
    def architecture(self) -> Architecture:
        return Architecture(
            hidden_size=self.hidden_size,
            intermediate_size=8 * self.hidden_size // 3,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=self.tied,
        )

    def folder(self, out: Path) -> Path:
        return out / (f"{self.world}-tied" if self.tied else self.world) / f"seed-{self.seed}"


def study_settings(world: WorldName, seed: int, *, tied: bool = False) -> StudySettings:
    """What the published figures are made with; seed 0 was for choosing it and is not among them.

    micro: of three schedules tried, the one of the highest seed ceiling. The scores were seen beside it, and it matters
    to them: twice the epochs at twice the rate make the last checkpoint a bad scorer (see benchmarks/README.md).
    real: the schedule of the highest seed ceiling of three, looked at alone but for one of the two that were dropped.
    With more epochs than micro it gets fewer halves for the same hour.
    """
    settings = StudySettings(world=world, seed=seed, tied=tied)
    return settings if world == "micro" else replace(settings, epochs=8, halves=32, repeated_halves=12)


def quick(settings: StudySettings) -> StudySettings:
    """The same study in miniature: every part runs, no figure means anything."""
    sizes = {"documents": 48, "halves": 6, "repeated_halves": 3, "stepped_documents": 8, "items_per_task": 4}
    return replace(settings, **sizes, vocabulary=400, sequence_length=24, hidden_size=16, epochs=1)


def claim(folder: Path, settings: StudySettings) -> None:
    """Record the study's settings in its folder, or refuse a folder that holds another study."""
    path = folder / "study.json"
    wanted = asdict(settings)
    if not path.exists():
        write_atomically(path, (json.dumps(wanted, indent=1) + "\n").encode())
        return
    found = json.loads(path.read_text())
    for key, value in wanted.items():
        if found.get(key) != value:
            raise AutomixerError(
                f"{path} records {key}={found.get(key)}, not {value}: choose another --out, or delete the folder"
            )
