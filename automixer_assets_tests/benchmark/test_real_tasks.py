"""Claims about lm-eval's own eight tasks of the paper, on real items, where AUTOMIXER_TEST_DATA names a folder with
`benchmarks/<task>/{train,validation}.jsonl`."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from automixer_assets.benchmark.items import only_listed, render_items, write_validation_items
from automixer_assets.benchmark.runner import evaluate_checkpoints
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.proxy.tokenizer import load_tokenizer
from automixer_assets.settings import Tasks

DATA = os.environ.get("AUTOMIXER_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="AUTOMIXER_TEST_DATA names no folder with real benchmark items")

YAMLS = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "siqa": "siqa/siqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "winogrande": "winogrande/default.yaml",
}
FEW = 12


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tasks]:
    """lm-eval's own YAML files over the local items: only the data differ."""
    import lm_eval

    base = tmp_path_factory.mktemp("real")
    (base / "tasks").mkdir()
    for name, yaml_path in YAMLS.items():
        files = {
            split: str(Path(DATA or "") / "benchmarks" / name / f"{split}.jsonl") for split in ("train", "validation")
        }
        document = {
            "include": str(Path(lm_eval.__file__).parent / "tasks" / yaml_path),
            "task": f"real_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
        }
        (base / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(document))
    halves = {"selection": "validation[:50%]", "final": "validation[50%:]"}
    limits = {"gradient_items": FEW, "selection_items": FEW, "final_items": FEW}
    names = [f"real_{name}" for name in YAMLS]
    return base, Tasks.model_validate({"names": names, "directory": "tasks", "default_splits": halves, **limits})


def test_the_papers_eight_tasks_run(
    real: tuple[Path, Tasks], checkpoints: dict[str, Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    base, tasks = real
    cache = tmp_path / "datasets"
    written = write_validation_items(
        tasks, base, load_tokenizer(tokenizer_folder), tmp_path, cache=cache, shared="drop"
    )
    assert len(written.counts) == 3 * len(YAMLS)
    item_sets = pl.read_parquet(tmp_path / "item_sets.parquet")
    loaded = only_listed(load_tasks(tasks, base, "selection", cache=cache), item_sets)
    assert {len(render_items(task)[0].options) for task in loaded.values()} >= {2, 3, 4}
    key, folder = next(iter(checkpoints.items()))
    short = {name: task for name, task in loaded.items() if name in ("real_arc_easy", "real_winogrande")}
    table = evaluate_checkpoints({key: folder}, short, total_steps=40, cache=tmp_path / "results").benchmark
    assert table["n_items"].to_list() == [FEW, FEW]
    assert table["acc_norm"].is_null().to_list() == [False, True]
