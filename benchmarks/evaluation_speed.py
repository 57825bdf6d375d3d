"""Speed of the benchmark table against lm-eval's own model: python -m benchmarks.evaluation_speed

Both sides get the same built tasks, items, random model and batch size, and evaluate several checkpoints. The baseline
is `lm_eval.evaluator.evaluate` with one `HFLM` whose weights are exchanged, so it does not pay for imports, task
building or `simple_evaluate`'s report either. Sides alternate, each a whole table; CPU time, one torch thread; the
median of the paired ratios is reported with its range. Without `--data` the micro-world's eight tasks are asked, with
it the paper's eight, from local files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.runner import evaluate_checkpoints
from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.lake import Lake
from automixer_assets.proxy.checkpoints import checkpoint_key, write_checkpoint
from automixer_assets.proxy.model import build_model, load_model, replace_weights
from automixer_assets.proxy.tokenizer import load_tokenizer, train_tokenizer
from automixer_assets.settings import Architecture, Tasks

SHAPE = Architecture(
    hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2
)
VOCABULARY, CONTEXT, BATCH_SIZE = 4096, 512, 16


def main() -> None:
    """Print a Markdown table: task, items, items per CPU-second of both sides, ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with TASK/SPLIT.jsonl (`automixer tasks prepare`)")
    parser.add_argument("--items", type=int, default=100, help="items per task")
    parser.add_argument("--checkpoints", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3, help="paired runs per row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tasks = load_tasks(_settings(options.data, base, options.items), base, "selection", cache=base / "cache")
        checkpoints = _checkpoints(tasks, base, options.checkpoints)
        print("| task | items x checkpoints | lm-eval HFLM, items/s | this package, items/s | ratio, median [range] |")
        print("|---|---|---|---|---|")
        for name, chosen in [*((name, {name: task}) for name, task in tasks.items()), ("all", tasks)]:
            print(_row(name, chosen, checkpoints, base, options.pairs), flush=True)


def _settings(data: Path | None, base: Path, items: int) -> Tasks:
    if data is None:
        from automixer_assets.microworld import TASKS, write_microworld

        write_microworld(base / "microworld", seed=0, documents_per_snapshot=200)
        return Tasks(names=list(TASKS), directory="microworld/tasks", selection_items=items)
    from automixer_assets.benchmark.prepare import SOURCES, prepare_tasks

    prepare_tasks(str(data), base / "data")
    local = {"source": "files", "directory": "data"}
    return Tasks.model_validate({"names": list(SOURCES), "data": local, "selection_items": items})


def _checkpoints(tasks: dict[str, LoadedTask], base: Path, count: int) -> dict[str, Path]:
    """Random models over a tokenizer that was trained on the items."""
    texts = (str(doc) for task in tasks.values() for doc in task.documents)
    tokenizer = train_tokenizer(texts, VOCABULARY, base / "tokenizer").folder
    vocabulary = len(load_tokenizer(tokenizer))
    return {
        checkpoint_key("random", step): write_checkpoint(
            build_model(SHAPE, vocabulary, CONTEXT, seed=step), base / "run", step, tokenizer
        )
        for step in range(1, count + 1)
    }


def _row(name: str, tasks: dict[str, LoadedTask], checkpoints: dict[str, Path], base: Path, pairs: int) -> str:
    folders, lakes = list(checkpoints.values()), iter(range(pairs))
    model: Any = load_model(folders[0])
    lm = _language_model(model, folders[0])

    def theirs() -> None:
        for folder in folders:
            replace_weights(model, folder)
            _evaluate(lm, tasks)

    def ours() -> None:
        lake = Lake(base / "lakes" / f"{name}-{next(lakes)}")
        evaluate_checkpoints(checkpoints, tasks, total_steps=len(folders), lake=lake, batch_size=BATCH_SIZE)

    timed = [(_cpu_seconds(theirs), _cpu_seconds(ours)) for _ in range(pairs)]
    count = sum(map(len, tasks.values())) * len(folders)
    ratios = [baseline / own for baseline, own in timed]
    speeds = [count / statistics.median(side) for side in zip(*timed, strict=True)]
    spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    return f"| {name} | {count} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {spread} |"


def _language_model(model: Any, folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    make: Any = HFLM
    with harness():
        return make(pretrained=model, tokenizer=load_tokenizer(folder), batch_size=BATCH_SIZE)


def _evaluate(lm: Any, tasks: dict[str, LoadedTask]) -> None:
    from lm_eval.evaluator import evaluate

    with harness():
        evaluate(lm, {"tasks": {name: task.task for name, task in tasks.items()}}, bootstrap_iters=100)


def _cpu_seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
