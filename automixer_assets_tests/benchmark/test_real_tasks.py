"""Claims about lm-eval's own eight tasks of the paper, on real items, where AUTOMIXER_TEST_DATA names a folder with
`benchmarks/<task>/{train,validation}.jsonl`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from automixer_assets.benchmark.items import only_listed, render_items, write_validation_items
from automixer_assets.benchmark.prepare import SOURCES, prepare_tasks
from automixer_assets.benchmark.registry import Definition, find_definitions
from automixer_assets.benchmark.runner import evaluate_checkpoints
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.lake import Lake
from automixer_assets.proxy.checkpoints import write_checkpoint
from automixer_assets.proxy.model import build_model, load_model
from automixer_assets.proxy.tokenizer import load_tokenizer, train_tokenizer
from automixer_assets.settings import Architecture, Tasks

DATA = os.environ.get("AUTOMIXER_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="AUTOMIXER_TEST_DATA names no folder with real benchmark items")

FEW = 12
CONTEXT = 256
"""Short enough that some of boolq's passages lose their beginning."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings' base folder with the eight tasks' items in `data/`, and the first few of them in `few/`."""
    base = tmp_path_factory.mktemp("real")
    counts = prepare_tasks(str(Path(DATA or "") / "benchmarks"), base / "data")
    assert all(splits["train"] > 500 and splits["validation"] > 100 for splits in counts.values())
    for path in (base / "data").glob("*/*.jsonl"):
        few = base / "few" / path.relative_to(base / "data")
        few.parent.mkdir(parents=True, exist_ok=True)
        few.write_text("".join(path.read_text().splitlines(keepends=True)[:FEW]))
    return base


@pytest.fixture(scope="module")
def checkpoint(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that is far from indifferent, with a tokenizer that knows the items' words."""
    folder = tmp_path_factory.mktemp("model")
    texts = (path.read_text() for path in sorted((base / "few").glob("*/*.jsonl")))
    tokenizer = train_tokenizer(texts, 1000, folder / "tokenizer")
    shape = Architecture(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = build_model(shape, len(load_tokenizer(tokenizer.folder)), CONTEXT, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim == 2 else 1)
    return write_checkpoint(model, folder, 10, tokenizer.folder)


def settings(directory: str, **changes: Any) -> Tasks:
    halves = {"selection": "validation[:50%]", "final": "validation[50%:]"}
    limits = {"gradient_items": FEW, "selection_items": FEW, "final_items": FEW}
    given = {"names": list(SOURCES), "data": {"source": "files", "directory": directory}, "default_splits": halves}
    return Tasks.model_validate({**given, **limits, **changes})


def as_lm_eval_has_it(definition: Definition, folder: Path) -> dict[str, Any]:
    """The task's own YAML over the few local items: nothing of this package but the data's place.

    Where the task scores its test split, that split is the local validation file.
    """
    named = {"train": "train", "validation": "validation", "test": "validation"}
    files = {split: str(folder / definition.name / f"{name}.jsonl") for split, name in named.items()}
    own = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    return {**definition.config, **own}


@pytest.mark.parametrize("num_fewshot", [0, 2])
def test_figures_are_those_of_simple_evaluate(base: Path, checkpoint: Path, tmp_path: Path, num_fewshot: int) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    chosen = settings("few", num_fewshot=num_fewshot, default_splits={"selection": "validation"})
    loaded = load_tasks(chosen, base, "selection", cache=tmp_path / "cache", seed=5)
    tables = evaluate_checkpoints({"p-step-000010": checkpoint}, loaded, total_steps=10, lake=Lake(tmp_path / "lake"))
    make: Any = HFLM
    evaluate: Any = simple_evaluate  # a decorator hides its signature
    report = evaluate(
        model=make(pretrained=load_model(checkpoint), tokenizer=load_tokenizer(checkpoint), batch_size=4),
        tasks=[as_lm_eval_has_it(definition, base / "few") for definition in find_definitions(chosen, base).values()],
        num_fewshot=num_fewshot,
        fewshot_random_seed=5,
        task_manager=TaskManager(include_defaults=False),
    )
    for row in tables.benchmark.iter_rows(named=True):
        expected = report["results"][row["task"]]
        assert row["n_items"] == FEW, row["task"]
        for metric in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr"):
            assert row[metric] == pytest.approx(expected.get(f"{metric},none"))
        samples = sorted(report["samples"][row["task"]], key=lambda sample: sample["doc_id"])
        golds = [-sample["filtered_resps"][gold][0] for sample, gold in zip(samples, loaded[row["task"]].golds)]  # noqa: B905
        found = tables.items.filter(pl.col("task") == row["task"])
        assert found["gold_nll"].to_list() == pytest.approx(golds, rel=1e-4)


def test_the_three_item_sets_of_the_eight_tasks_are_disjoint_and_complete(
    base: Path, checkpoint: Path, tmp_path: Path
) -> None:
    tasks, cache = settings("data"), tmp_path / "cache"
    tokenizer = load_tokenizer(checkpoint)
    written = write_validation_items(tasks, base, tokenizer, tmp_path, cache=cache, shared="drop")
    assert len(written.counts) == 3 * len(SOURCES)
    item_sets = pl.read_parquet(tmp_path / "item_sets.parquet")
    assert item_sets["item_hash"].n_unique() == item_sets.height
    loaded = only_listed(load_tasks(tasks, base, "selection", cache=cache), item_sets)
    assert {name: len(render_items(task)[0].options) for name, task in loaded.items()} == {
        "arc_easy": 4, "arc_challenge": 4, "boolq": 2, "piqa": 2, "social_iqa": 3, "hellaswag": 4, "openbookqa": 4,
        "winogrande": 2,
    }  # fmt: skip
