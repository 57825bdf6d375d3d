"""The benchmark table: every checkpoint on every task, by lm-eval (paper, section 3 and Table 1).

What is evaluated once is kept per checkpoint and task, so a killed or repeated run does only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.items import RenderedItem, encode_pair, render_items
from automixer_assets.benchmark.tasks import LoadedTask
from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path
from automixer_assets.proxy.checkpoints import parse_checkpoint_key
from automixer_assets.proxy.model import automatic_device, load_model, read_config, replace_weights, weight_files
from automixer_assets.proxy.tokenizer import load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    import torch

RESULT_VERSION = 1
"""Raise when the meaning of a kept result changes: older ones are then evaluated again."""

BENCHMARK_SCHEMA = {
    "checkpoint": pl.String,
    "step": pl.Int64,
    "progress": pl.Float64,
    "task": pl.String,
    "acc": pl.Float64,
    "acc_stderr": pl.Float64,
    "acc_norm": pl.Float64,
    "acc_norm_stderr": pl.Float64,
    "chance": pl.Float64,
    "gold_nll": pl.Float64,
    "gold_nll_stderr": pl.Float64,
    "gold_bits_per_byte": pl.Float64,
    "n_items": pl.Int64,
}
ITEMS_SCHEMA = {
    "checkpoint": pl.String,
    "step": pl.Int64,
    "task": pl.String,
    "doc_index": pl.Int64,
    "item_hash": pl.String,
    "acc": pl.Float64,
    "acc_norm": pl.Float64,
    "gold_nll": pl.Float64,
    "gold_bytes": pl.Int64,
    "n_options": pl.Int64,
}
METRIC_COLUMNS = list(BENCHMARK_SCHEMA)[4:]
ITEM_COLUMNS = list(ITEMS_SCHEMA)[3:]

EvaluationCallback = Callable[[str, int, int], None]
"""(checkpoint, evaluations done, evaluations in all), one evaluation being a checkpoint on a task."""


@dataclass(frozen=True)
class BenchmarkTables:
    """`benchmark`: a row per checkpoint and task; `items`: a row per checkpoint, task and item (docs/tables.md)."""

    benchmark: pl.DataFrame
    items: pl.DataFrame

    def write(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.benchmark.write_parquet(out / "benchmark.parquet")
        self.items.write_parquet(out / "items.parquet")


@dataclass(frozen=True)
class _Plan:
    """A task's items as they will be asked, and a digest of all that its result depends on but the checkpoint."""

    loaded: LoadedTask
    items: list[RenderedItem]
    digest: str


@dataclass(frozen=True)
class _Result:
    metrics: dict[str, Any]
    items: pl.DataFrame


def evaluate_checkpoints(
    folders: Mapping[str, Path],
    tasks: Mapping[str, LoadedTask],
    *,
    total_steps: int,
    cache: Path,
    tokenizer_folder: Path | None = None,
    batch_size: int = 16,
    device: torch.device | str | None = None,
    on_progress: EvaluationCallback | None = None,
) -> BenchmarkTables:
    """Evaluate checkpoints (key such as `demo-step-000480` -> Hugging Face folder) on loaded tasks.

    The model is built once, on the first checkpoint that needs it; for the others only weights are exchanged.
    `cache` keeps results per (checkpoint, task); a kept result is used while weights, tokenizer, items and batch
    size are the same. Without `tokenizer_folder` the first checkpoint's tokenizer is used. NLL in nats, float32.

    Raises:
        AutomixerError: a checkpoint is incomplete or of another shape than the first, or an answer is longer than
            the model's context.
    """
    if not folders:
        raise AutomixerError("there is no checkpoint to evaluate; materialise proxy_run first")
    plans = _plans(folders, tasks, tokenizer_folder or next(iter(folders.values())), batch_size)
    evaluator = _Evaluator(tokenizer_folder or next(iter(folders.values())), batch_size, device)
    metrics, items = [], []
    for number, (key, folder) in enumerate(folders.items()):
        step = parse_checkpoint_key(key)[1]
        weights = _weights_digest(folder)
        for position, plan in enumerate(plans):
            result = _result(evaluator, folder, plan, cache / key / plan.loaded.name, f"{weights}:{plan.digest}")
            row = {"checkpoint": key, "step": step, "progress": step / total_steps, "task": plan.loaded.name}
            metrics.append({**row, **result.metrics})
            items.append(_item_rows(result.items, key, step, plan.loaded.name))
            if on_progress is not None:
                on_progress(key, number * len(plans) + position + 1, len(folders) * len(plans))
    return BenchmarkTables(pl.DataFrame(metrics, schema=BENCHMARK_SCHEMA), pl.concat(items))


class _Evaluator:
    """One lm-eval model; `evaluate` exchanges its weights when the checkpoint changes."""

    def __init__(self, tokenizer_folder: Path, batch_size: int, device: torch.device | str | None) -> None:
        self._tokenizer_folder, self._batch_size, self._device = tokenizer_folder, batch_size, device
        self._lm: Any = None
        self._folder: Path | None = None

    def evaluate(self, folder: Path, plan: _Plan) -> _Result:
        from lm_eval.evaluator import evaluate

        with harness():
            self._use(folder)
            plan.loaded.task.set_fewshot_seed(plan.loaded.seed)
            # Any positive number: the standard error of a mean is analytic, but 0 would switch it off.
            report: Any = evaluate(self._lm, {"tasks": {plan.loaded.name: plan.loaded.task}}, bootstrap_iters=100)
        samples = sorted(report["samples"][plan.loaded.name], key=lambda sample: sample["doc_id"])
        table = pl.DataFrame([_item_row(item, sample) for item, sample in zip(plan.items, samples, strict=True)],
                             schema={name: ITEMS_SCHEMA[name] for name in ITEM_COLUMNS})  # fmt: skip
        return _Result(_metrics(report["results"][plan.loaded.name], table), table)

    def _use(self, folder: Path) -> None:
        if self._lm is None:
            self._lm = _build_lm(folder, self._tokenizer_folder, self._batch_size, self._device)
        elif folder != self._folder:
            replace_weights(self._lm.model, folder)
        self._folder = folder


def _build_lm(folder: Path, tokenizer_folder: Path, batch_size: int, device: torch.device | str | None) -> Any:
    from lm_eval.models.huggingface import HFLM

    model: Any = load_model(folder, tokenizer_folder=tokenizer_folder)
    model.to(device or automatic_device())
    make: Any = HFLM  # the registry's decorator hides its signature
    return make(pretrained=model, tokenizer=load_tokenizer(tokenizer_folder), batch_size=batch_size)


def _result(evaluator: _Evaluator, folder: Path, plan: _Plan, stem: Path, fingerprint: str) -> _Result:
    """The kept result, or a new one, which is then kept; the JSON file is written last and vouches for the table."""
    table_path, marker = stem.with_name(f"{stem.name}.parquet"), stem.with_name(f"{stem.name}.json")
    if marker.is_file():
        kept = json.loads(marker.read_text())
        if kept["fingerprint"] == fingerprint and table_path.is_file():
            return _Result(kept["metrics"], pl.read_parquet(table_path))
        marker.unlink()
    result = evaluator.evaluate(folder, plan)
    with atomic_path(table_path) as path:
        result.items.write_parquet(path)
    with atomic_path(marker) as path:
        path.write_text(json.dumps({"fingerprint": fingerprint, "metrics": result.metrics}, indent=1) + "\n")
    return result


def _plans(
    folders: Mapping[str, Path], tasks: Mapping[str, LoadedTask], tokenizer_folder: Path, batch_size: int
) -> list[_Plan]:
    tokenizer = load_tokenizer(tokenizer_folder)
    context_length = min(_context_length(folder) for folder in folders.values())
    common = [RESULT_VERSION, tokenizer_digest(tokenizer_folder), batch_size]
    plans = []
    for loaded in tasks.values():
        with harness():
            items = render_items(loaded)
        _refuse_long_answers(items, tokenizer, context_length)
        metrics = [metric["metric"] for metric in loaded.task.config.metric_list or []]
        asked = [[item.doc_index, item.gold, item.options] for item in items]
        digest = hashlib.sha256(json.dumps([*common, metrics, asked]).encode()).hexdigest()
        plans.append(_Plan(loaded, items, digest))
    return plans


def _refuse_long_answers(items: list[RenderedItem], tokenizer: Any, context_length: int) -> None:
    """lm-eval cuts long questions from the left; an answer that is empty or longer than the context stops it."""
    for item in items:
        for context, continuation in item.options:
            # A byte is at most one token here, so short strings need no tokenizer.
            if continuation.strip() and len(continuation.encode()) <= context_length:
                continue
            length = len(encode_pair(tokenizer, context, continuation)[1])
            if not 0 < length <= context_length:
                raise AutomixerError(
                    f"task {item.task!r}: an option of item {item.doc_index} has {length} tokens, but the model reads "
                    f"1 to {context_length}; mend the item, or train with a longer training.sequence_length"
                )


def _context_length(folder: Path) -> int:
    config = read_config(folder)
    return int(config.get("max_position_embeddings") or config.get("n_positions", 2048))  # GPT-2 calls it n_positions


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _item_row(item: RenderedItem, sample: Mapping[str, Any]) -> dict[str, Any]:
    """One item's row from lm-eval's log: per option a pair (log-likelihood in nats, whether greedy)."""
    return {
        "doc_index": item.doc_index,
        "item_hash": item.item_hash,
        "acc": float(sample["acc"]),
        "acc_norm": float(sample["acc_norm"]) if "acc_norm" in sample else None,
        "gold_nll": -float(sample["filtered_resps"][item.gold][0]),
        "gold_bytes": len(item.answer.encode()),
        "n_options": len(item.options),
    }


def _metrics(report: Mapping[str, Any], items: pl.DataFrame) -> dict[str, Any]:
    nll = items["gold_nll"].to_numpy()
    error = float(nll.std(ddof=1)) / math.sqrt(len(nll)) if len(nll) > 1 else None
    return {
        "acc": _number(report.get("acc,none")),
        "acc_stderr": _number(report.get("acc_stderr,none")),
        "acc_norm": _number(report.get("acc_norm,none")),
        "acc_norm_stderr": _number(report.get("acc_norm_stderr,none")),
        "chance": (1.0 / items["n_options"]).mean(),
        "gold_nll": float(nll.mean()),
        "gold_nll_stderr": error,
        "gold_bits_per_byte": float(nll.sum()) / math.log(2) / max(1, int(items["gold_bytes"].sum())),
        "n_items": items.height,
    }


def _number(value: Any) -> float | None:
    """None where lm-eval has no such metric, or writes 'N/A' (standard error of a single item)."""
    return float(value) if isinstance(value, int | float) else None


def _item_rows(items: pl.DataFrame, checkpoint: str, step: int, task: str) -> pl.DataFrame:
    named = items.with_columns(
        pl.lit(checkpoint).alias("checkpoint"), pl.lit(step, dtype=pl.Int64).alias("step"), pl.lit(task).alias("task")
    )
    return named.select(list(ITEMS_SCHEMA))
