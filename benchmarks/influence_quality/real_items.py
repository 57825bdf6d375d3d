"""Items of the paper's eight benchmarks as text: question and gold answer, rendered by lm-eval itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.items import render_items
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.settings import Tasks

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


def benchmark_texts(data: Path, count: int, seed: int) -> dict[str, list[str]]:
    """Task -> `count` training items, from `data`/benchmarks/<task>/train.jsonl under lm-eval's own task files."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in YAMLS:
            (base / f"{name}.yaml").write_text(yaml.safe_dump(_over_local_files(name, data)))
        splits = {"gradient": "train", "selection": "validation[:50%]", "final": "validation[50%:]"}
        tasks = Tasks.model_validate(
            {"names": list(YAMLS), "directory": ".", "default_splits": splits, "gradient_items": count}
        )
        loaded = load_tasks(tasks, base, "gradient", cache=base / "cache", seed=seed)
        with harness():
            return {name: [item.text for item in render_items(task)] for name, task in loaded.items()}


def _over_local_files(name: str, data: Path) -> dict[str, object]:
    """lm-eval's task file with nothing changed but where its data lie."""
    import lm_eval

    return {
        "include": str(Path(lm_eval.__file__).parent / "tasks" / YAMLS[name]),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {
                split: str(data / "benchmarks" / name / f"{split}.jsonl") for split in ("train", "validation")
            }
        },
    }
