"""dattri-llm's `TracInAttributor.attribute` on query texts, its own form: factorised on both sides where cheaper.

This is its best case, one text per task. The time includes the gradients of the m query texts, which it takes anew in
every call; a task of many texts needs one query each, and a direction with a curvature in it has no factors at all.
Configured as in `dattri_llm_dense`.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from dattri_llm import AttributionArguments, AttributionTask, HookManagerConfig, TracInAttributor

from benchmarks.peers.case import Case, Score, mean_loss

DISTRIBUTION = "dattri-llm"
NOTE = "one text per task, its best case; the time includes the texts' gradients"


def prepare(case: Case) -> Score:
    return live_scoring(case, TracInAttributor, case.items)


def live_scoring(case: Case, attributor: type[TracInAttributor], texts: torch.Tensor) -> Score:
    """Scores of the documents against query texts [m, T], both captured in the same call."""
    case.freeze_below()
    arguments = AttributionArguments(
        output_dir=str(case.folder / "scores"),
        per_device_train_batch_size=len(case.batches[0]),
        per_device_eval_batch_size=len(texts),
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    hooks = HookManagerConfig(hook_types=dict.fromkeys(case.query, "linear_io"), include_frozen=True)

    def score() -> np.ndarray:
        task = AttributionTask(loss_func=_loss, model=case.model)
        result: Any = attributor(arguments, task=task).attribute(_rows(case.documents), _rows(texts), hook_config=hooks)
        return result.agnostic_matrix()[1].numpy()

    return score


def _loss(model: Any, batch: Any) -> torch.Tensor:
    return mean_loss(model, batch["input_ids"]).sum()


def _rows(ids: torch.Tensor) -> Any:
    return [{"input_ids": row} for row in ids]
