"""The benchmark table: every checkpoint on every task, by lm-eval (paper, section 3 and Table 1).

Each checkpoint on each task is an artefact of the lake, named by the weights and by what was asked: after a killed run,
with a new checkpoint or a new task, only what is missing is evaluated. Tasks are built, rendered and tokenised once.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.items import RenderedItem, encode_pair, render_items
from automixer_assets.benchmark.likelihood import (
    EncodedOption,
    Likelihood,
    Row,
    log_likelihoods,
    plan_rows,
    shares_rows,
)
from automixer_assets.benchmark.tasks import LoadedTask
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Lake, digest_of
from automixer_assets.proxy.checkpoints import parse_checkpoint_key
from automixer_assets.proxy.model import automatic_device, load_model, read_config, replace_weights, weight_files
from automixer_assets.proxy.tokenizer import load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EVALUATION = "evaluation"
"""The lake's kind for results: one checkpoint on one task."""
RESULT_VERSION = 2
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
LEFT_OUT_SCHEMA = {
    "task": pl.String,
    "doc_index": pl.Int64,
    "item_hash": pl.String,
    "n_tokens": pl.Int64,
    "context_length": pl.Int64,
}
"""Items that no model of this context can be asked; `n_tokens` is of an option that does not fit, or is empty."""
LEFT_OUT_FILE = "left_out.parquet"
METRIC_COLUMNS = list(BENCHMARK_SCHEMA)[4:]
ITEM_COLUMNS = list(ITEMS_SCHEMA)[3:]

EvaluationCallback = Callable[[str, int, int], None]
"""(checkpoint, evaluations done, evaluations in all), one evaluation being a checkpoint on a task."""


@dataclass(frozen=True)
class BenchmarkTables:
    """`benchmark`: a row per checkpoint and task; `items`: a row per checkpoint, task and item (docs/tables.md).

    `left_out`: a row per item that was asked of no checkpoint; its file is written where there are any.
    """

    benchmark: pl.DataFrame
    items: pl.DataFrame
    left_out: pl.DataFrame

    def write(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        if not self.left_out.is_empty():
            self.left_out.write_parquet(out / LEFT_OUT_FILE)
        self.benchmark.write_parquet(out / "benchmark.parquet")
        self.items.write_parquet(out / "items.parquet")


def read_left_out(folder: Path) -> pl.DataFrame:
    """LEFT_OUT_SCHEMA: the items that the tables in `folder` are not about; all seeds of a target leave them out."""
    path = folder / LEFT_OUT_FILE
    if not path.exists():
        return pl.DataFrame(schema=LEFT_OUT_SCHEMA)
    return pl.read_parquet(path, columns=list(LEFT_OUT_SCHEMA)).unique(maintain_order=True)


@dataclass(frozen=True)
class _Plan:
    """A task's items as they will be asked, and a digest of all that its result depends on but the weights.

    `left_out` are rows of LEFT_OUT_SCHEMA: items that are not among `items`.
    """

    loaded: LoadedTask
    left_out: list[dict[str, Any]]
    items: list[RenderedItem]
    encoded: list[list[EncodedOption]]
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
    lake: Lake,
    tokenizer_folder: Path | None = None,
    batch_size: int = 16,
    device: torch.device | str | None = None,
    on_progress: EvaluationCallback | None = None,
) -> BenchmarkTables:
    """Evaluate checkpoints (key such as `demo-step-000480` -> Hugging Face folder) on loaded tasks.

    The model is built once, on the first checkpoint that needs it; for the others only weights are exchanged.
    `lake` keeps a result per checkpoint and task, found again while weights, tokenizer, items and batch size are the
    same. Without `tokenizer_folder` the first checkpoint's tokenizer is used. NLL in nats, float32. An item with an
    answer that is empty or longer than the shortest context of the checkpoints is asked of none of them, so that they
    stay comparable.

    Raises:
        AutomixerError: a checkpoint is incomplete or of another shape than the first, a task has no item that fits, or
            another process evaluates the same.
    """
    if not folders:
        raise AutomixerError("there is no checkpoint to evaluate; materialise proxy_run first")
    tokenizer_folder = tokenizer_folder or next(iter(folders.values()))
    context_length = min(_context_length(folder) for folder in folders.values())
    plans = _plans(tasks, tokenizer_folder, context_length, batch_size)
    evaluator = _Evaluator(tokenizer_folder, context_length, batch_size, device)
    metrics, items = [], []
    for number, (key, folder) in enumerate(folders.items()):
        step = parse_checkpoint_key(key)[1]
        weights = _weights_digest(folder)
        for position, plan in enumerate(plans):
            result = _result(lake, evaluator, folder, plan, weights)
            row = {"checkpoint": key, "step": step, "progress": step / total_steps, "task": plan.loaded.name}
            metrics.append({**row, **result.metrics})
            items.append(_item_rows(result.items, key, step, plan.loaded.name))
            if on_progress is not None:
                on_progress(key, number * len(plans) + position + 1, len(folders) * len(plans))
    left_out = pl.DataFrame([row for plan in plans for row in plan.left_out], LEFT_OUT_SCHEMA)
    return BenchmarkTables(pl.DataFrame(metrics, schema=BENCHMARK_SCHEMA), pl.concat(items), left_out)


class _Evaluator:
    """One model; `evaluate` exchanges its weights when the checkpoint changes."""

    def __init__(
        self, tokenizer_folder: Path, context_length: int, batch_size: int, device: torch.device | str | None
    ) -> None:
        self._tokenizer_folder, self._context_length = tokenizer_folder, context_length
        self._batch_size, self._device = batch_size, device
        self._model: PreTrainedModel | None = None
        self._folder: Path | None = None
        self._rows: dict[str, list[Row]] = {}

    def evaluate(self, folder: Path, plan: _Plan) -> _Result:
        model = self._use(folder)
        if plan.digest not in self._rows:
            self._rows[plan.digest] = plan_rows(plan.encoded, self._context_length, share=shares_rows(model))
        found = log_likelihoods(model, self._rows[plan.digest], self._batch_size)
        rows = []
        with harness():
            for number, (item, doc) in enumerate(zip(plan.items, plan.loaded.documents, strict=True)):
                options = [found[number, option] for option in range(len(item.options))]
                rows.append(_item_row(plan.loaded, item, doc, options))
        table = pl.DataFrame(rows, schema={name: ITEMS_SCHEMA[name] for name in ITEM_COLUMNS})
        return _Result(_metrics(table), table)

    def _use(self, folder: Path) -> PreTrainedModel:
        if self._model is None:
            model: Any = load_model(folder, tokenizer_folder=self._tokenizer_folder)
            self._model = model.to(self._device or automatic_device())
        elif folder != self._folder:
            replace_weights(self._model, folder)
        self._folder = folder
        assert self._model is not None
        return self._model


def _result(lake: Lake, evaluator: _Evaluator, folder: Path, plan: _Plan, weights: str) -> _Result:
    """The result that the lake keeps, or a new one, which is then kept."""

    def write(out: Path) -> None:
        result = evaluator.evaluate(folder, plan)
        result.items.write_parquet(out / "items.parquet")
        (out / "metrics.json").write_text(json.dumps(result.metrics, indent=1) + "\n")

    path = lake.publish(EVALUATION, digest_of([weights, plan.digest]), write).path
    return _Result(json.loads((path / "metrics.json").read_text()), pl.read_parquet(path / "items.parquet"))


def _plans(
    tasks: Mapping[str, LoadedTask], tokenizer_folder: Path, context_length: int, batch_size: int
) -> list[_Plan]:
    tokenizer = load_tokenizer(tokenizer_folder)
    common = [RESULT_VERSION, tokenizer_digest(tokenizer_folder), context_length, batch_size]
    plans = []
    for loaded in tasks.values():
        with harness():
            items = render_items(loaded)
        encoded = [[encode_pair(tokenizer, *option) for option in item.options] for item in items]
        left_out = _unanswerable(items, encoded, context_length)
        if left_out:
            unasked = {row["doc_index"] for row in left_out}
            kept = [number for number, item in enumerate(items) if item.doc_index not in unasked]
            loaded, items = loaded.keep(kept), [items[number] for number in kept]
            encoded = [encoded[number] for number in kept]
        metrics = [metric["metric"] for metric in loaded.task.config.metric_list or []]
        asked = [[item.doc_index, item.gold, item.options] for item in items]
        plans.append(_Plan(loaded, left_out, items, encoded, digest_of([*common, loaded.name, metrics, asked])))
    return plans


def _unanswerable(
    items: list[RenderedItem], encoded: list[list[EncodedOption]], context_length: int
) -> list[dict[str, Any]]:
    """Items with an option that cannot be scored. Long questions are no such: they are cut from the left.

    Raises:
        AutomixerError: all items of the task are such.
    """
    rows = []
    for item, options in zip(items, encoded, strict=True):
        wrong = [len(answer) for _, answer in options if not 0 < len(answer) <= context_length]
        if wrong:
            named = {"task": item.task, "doc_index": item.doc_index, "item_hash": item.item_hash}
            rows.append({**named, "n_tokens": max(wrong), "context_length": context_length})
    if rows and len(rows) == len(items):
        raise AutomixerError(
            f"task {items[0].task!r}: none of its {len(items)} items can be asked, for each has an option that is "
            f"empty or longer than the {context_length} tokens that the model reads (item {items[0].doc_index}: "
            f"{rows[0]['n_tokens']}); mend the items, train with a longer training.sequence_length, or drop the task"
        )
    return rows


def _context_length(folder: Path) -> int:
    config = read_config(folder)
    return int(config.get("max_position_embeddings") or config.get("n_positions") or 2048)  # the latter is GPT-2's


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _item_row(loaded: LoadedTask, item: RenderedItem, doc: Any, options: Sequence[Likelihood]) -> dict[str, Any]:
    """One item's row; whether the answer counts as right is for lm-eval's own task to say."""
    task: Any = loaded.task
    judged = task.process_results(doc, [(option.nats, option.greedy) for option in options])
    return {
        "doc_index": item.doc_index,
        "item_hash": item.item_hash,
        "acc": float(judged["acc"]),
        "acc_norm": float(judged["acc_norm"]) if "acc_norm" in judged else None,
        "gold_nll": -options[item.gold].nats,
        "gold_bytes": len(item.answer.encode()),
        "n_options": len(item.options),
    }


def _metrics(items: pl.DataFrame) -> dict[str, Any]:
    """Means and their standard errors (sample standard deviation / sqrt(n), as in lm-eval)."""
    return {
        **_mean("acc", items),
        **_mean("acc_norm", items),
        **_mean("gold_nll", items),
        "chance": (1.0 / items["n_options"]).mean(),
        "gold_bits_per_byte": float(items["gold_nll"].sum()) / math.log(2) / max(1, int(items["gold_bytes"].sum())),
        "n_items": items.height,
    }


def _mean(name: str, items: pl.DataFrame) -> dict[str, float | None]:
    values = items[name].drop_nulls().to_numpy()
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return {name: float(values.mean()) if len(values) else None, f"{name}_stderr": error}


def _item_rows(items: pl.DataFrame, checkpoint: str, step: int, task: str) -> pl.DataFrame:
    named = items.with_columns(
        pl.lit(checkpoint).alias("checkpoint"), pl.lit(step, dtype=pl.Int64).alias("step"), pl.lit(task).alias("task")
    )
    return named.select(list(ITEMS_SCHEMA))
