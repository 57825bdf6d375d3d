"""Tiny real inputs for the benchmark tests: local lm-eval tasks, a tokenizer, checkpoints of a random model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.proxy.checkpoints import checkpoint_key, write_checkpoint
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.tokenizer import train_tokenizer
from automixer_assets.settings import Architecture, Tasks

torch.set_num_threads(1)  # on shared cores two threads spin on each other, ten times slower

WORDS = ["river", "stone", "lamp", "forest", "winter", "bread", "letter", "garden", "copper", "music"]
STEPS = (10, 20, 40)


def choice_items(split: str, count: int, options: int) -> list[dict[str, Any]]:
    """Questions with a fixed number of options; 0 makes it vary from two to five."""
    items = []
    for i in range(count):
        n = options or 2 + i % 4
        choices = [f"{WORDS[(i + k) % 10]} {WORDS[(3 * i + k) % 10]}s" for k in range(n)]
        items.append({"question": f"What does the {split} number {i} hold?", "choices": choices, "gold": i % n})
    return items


def blank_items(split: str, count: int) -> list[dict[str, Any]]:
    """Winogrande's form: the option fills the blank, the rest of the sentence is scored."""
    return [
        {
            "sentence": f"In {split} {i} the {WORDS[i % 10]} hid the {WORDS[(i + 1) % 10]} since the _ was too bright.",
            "option1": WORDS[i % 10],
            "option2": WORDS[(i + 1) % 10],
            "answer": str(1 + i % 2),
        }
        for i in range(count)
    ]


BLANK = {
    "doc_to_text": "{{ (answer | int) - 1 }}",
    "doc_to_choice": "{{ [sentence.split('_')[0] ~ option1, sentence.split('_')[0] ~ option2] }}",
    "doc_to_target": "{{ sentence.split('_')[1].strip() }}",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
CHOICE = {
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}


def write_task(folder: Path, name: str, config: dict[str, Any], splits: dict[str, list[dict[str, Any]]]) -> Path:
    """A task's YAML with its JSON-lines files in `data/` beside it."""
    import yaml

    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, items in splits.items():
        (folder / "data" / f"{name}-{split}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    document = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: f"data/{name}-{split}.jsonl" for split in splits}},
        "output_type": "multiple_choice",
        "training_split": "train",
        "validation_split": "validation",
        **config,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings' base folder with `tasks/`: three tasks, each with three splits of distinct items."""
    base = tmp_path_factory.mktemp("base")
    sizes = {"train": 9, "validation": 8, "test": 7}
    for name, options in (("mixed", 0), ("three", 3)):
        splits = {split: choice_items(f"{name} {split}", count, options) for split, count in sizes.items()}
        write_task(base / "tasks", name, CHOICE, splits)
    blanks = {split: blank_items(split, count) for split, count in sizes.items()}
    write_task(base / "tasks" / "deeper", "blanks", BLANK, blanks)
    return base


@pytest.fixture(scope="session")
def tasks() -> Tasks:
    return Tasks(names=["mixed", "three", "blanks"], directory="tasks", batch_size=4)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets-cache")


@pytest.fixture
def load(base: Path, cache: Path, tasks: Tasks) -> Callable[..., dict[str, LoadedTask]]:
    """load(item_set, **changed settings of the tasks)."""

    def load(item_set: Any = "selection", seed: int = 0, **changes: Any) -> dict[str, LoadedTask]:
        changed = Tasks.model_validate({**tasks.model_dump(), **changes})
        return load_tasks(changed, base, item_set, cache=cache, seed=seed)

    return load


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"{item}" for item in choice_items("train", 40, 4) + blank_items("train", 40)]
    return train_tokenizer(iter(texts), 400, tmp_path_factory.mktemp("tokenizer")).folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> dict[str, Path]:
    """Three checkpoints with different random weights."""
    architecture = Architecture(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    run = tmp_path_factory.mktemp("run")
    folders = {}
    for step in STEPS:
        model = build_model(architecture, 400, 64, seed=step)
        with torch.no_grad():
            for parameter in model.parameters():  # far from uniform predictions
                parameter.mul_(8 if parameter.ndim == 2 else 1)
        folders[checkpoint_key("p", step)] = write_checkpoint(model, run, step, tokenizer_folder)
    return folders
