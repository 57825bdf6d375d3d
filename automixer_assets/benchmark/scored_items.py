"""The texts of scored items: those that choose checkpoints (selection) and those that judge targets (final).

Gradient items are not among them: they come from the tasks' training splits and are what documents are sought for.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.items import only_listed, render_items
from automixer_assets.benchmark.tasks import ItemSet, load_tasks
from automixer_assets.settings import Tasks

SCORED_SETS: tuple[ItemSet, ...] = ("selection", "final")
COLUMNS = ("task", "item_set", "item_hash", "text", "question")


def scored_items(tasks: Tasks, base: Path, item_sets: pl.DataFrame, *, cache: Path, seed: int = 0) -> pl.DataFrame:
    """One row per scored item: `task, item_set, item_hash, text, question`, in the settings' order of tasks.

    `text` is the question with its gold answer as lm-eval renders them, without few-shot examples.

    Args:
        base, cache, seed: as for `load_tasks`.
        item_sets: the items that validation_items lists; no other is scored.

    Raises:
        AutomixerError: as `load_tasks`, or the items are no longer those that were listed.
    """
    plain = tasks.model_copy(update={"num_fewshot": 0})
    rows = []
    for item_set in SCORED_SETS:
        loaded = only_listed(load_tasks(plain, base, item_set, cache=cache, seed=seed), item_sets)
        with harness():
            rows += [
                (item.task, item_set, item.item_hash, item.text, item.context)
                for task in loaded.values()
                for item in render_items(task)
            ]
    return pl.DataFrame(rows, [(name, pl.String) for name in COLUMNS], orient="row")
