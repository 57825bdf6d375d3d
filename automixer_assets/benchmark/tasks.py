"""lm-eval tasks, built once per item set, with the splits that the settings name and gold answers checked.

Only multiple choice is supported: the benchmark table compares the gold answer's likelihood with that of the other
options.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.registry import Definition, find_definitions, one_line
from automixer_assets.benchmark.sources import read_split
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks

if TYPE_CHECKING:
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

ItemSet = Literal["gradient", "selection", "final"]
ITEM_SETS: tuple[ItemSet, ...] = ("gradient", "selection", "final")
METRICS = ("acc", "acc_norm")
ITEMS, FEWSHOT = "items", "fewshot"
"""Names of the two splits that a built task sees."""


@dataclass(frozen=True)
class LoadedTask:
    """An lm-eval task over the items of one item set. `doc_indices[i]` is the row of item i in the named split
    (after the task's `process_docs`), `golds[i]` the index of its gold option."""

    name: str
    item_set: ItemSet
    split: str
    source: Path
    task: ConfigurableTask
    doc_indices: tuple[int, ...]
    golds: tuple[int, ...]
    seed: int

    @property
    def documents(self) -> Dataset:
        return self.task.eval_docs  # pyright: ignore[reportReturnType]

    def __len__(self) -> int:
        return len(self.doc_indices)

    def keep(self, positions: Sequence[int]) -> LoadedTask:
        """The same task over the items at these positions alone."""
        task = copy.copy(self.task)
        task.dataset = {**self.task.dataset, ITEMS: self.documents.select(positions)}  # pyright: ignore[reportArgumentType]
        indices, golds = (tuple(values[i] for i in positions) for values in (self.doc_indices, self.golds))
        return dataclasses.replace(self, task=task, doc_indices=indices, golds=golds)


def load_tasks(tasks: Tasks, base: Path, item_set: ItemSet, *, cache: Path, seed: int = 0) -> dict[str, LoadedTask]:
    """The tasks of the settings over one item set, in the settings' order.

    `base` resolves the folders that the settings name; relative `data_files` in a YAML are resolved against the
    YAML's own folder. `cache` receives what `datasets` caches. An item limit keeps the first items in the order of a
    hash of (seed, task, item), so it does not depend on the order of the file.

    Raises:
        AutomixerError: a task is unknown or is not multiple choice, its data or split is missing or empty, or an item
            has no gold answer.
    """
    with harness():
        definitions = find_definitions(tasks, base)
        loader = _Loader(tasks, base, cache, seed)
        return {name: loader.load(definition, item_set) for name, definition in definitions.items()}


def gold_option(task: ConfigurableTask, doc: Mapping[str, Any]) -> int | None:
    """Index of the gold option by lm-eval's conventions; None when the item has none.

    Where `doc_to_text` gives an index (winogrande) the options are contexts and that index is the gold one. Of
    several gold answers the first counts.
    """
    options = task.doc_to_choice(doc)
    gold: Any = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, list):
        gold = gold[0] if gold else None
    if isinstance(gold, str):
        gold = options.index(gold) if gold in options else None
    # lm-eval itself takes -1, the label of hidden answers, for the last option.
    return int(gold) if isinstance(gold, int) and 0 <= gold < len(options) else None


@dataclass(frozen=True)
class _Loader:
    """What every task of one load shares."""

    tasks: Tasks
    base: Path
    cache: Path
    seed: int

    def load(self, definition: Definition, item_set: ItemSet) -> LoadedTask:
        split = getattr(self.tasks.splits_of(definition.name, definition.named), item_set)
        documents = self._read(definition, split, f"tasks.splits.{definition.name}.{item_set}")
        limit = getattr(self.tasks, f"{item_set}_items")
        rows = _chosen(documents, limit, f"{self.seed}:{definition.name}")
        chosen = documents.select(rows)
        fewshot = self._fewshot(definition, chosen) if self.tasks.num_fewshot else None
        task = _build(definition, chosen, fewshot, self.tasks.num_fewshot)
        golds = _golds(task, definition, split, rows)
        return LoadedTask(definition.name, item_set, split, definition.path, task, tuple(rows), golds, self.seed)

    def _read(self, definition: Definition, split: str, key: str) -> Dataset:
        return read_split(definition, split, key, self.tasks.data, self.base, self.cache)

    def _fewshot(self, definition: Definition, chosen: Dataset) -> Dataset:
        """Documents for few-shot examples, without the scored items themselves."""
        config = definition.config
        own = config.get("fewshot_config") or {}
        split = own.get("split") or config.get("fewshot_split") or config.get("training_split")
        if split is None:
            raise AutomixerError(
                f"task {definition.name!r} ({definition.path}) names no fewshot_split; set num_fewshot: 0"
            )
        documents = self._read(definition, split, f"fewshot_split in {definition.path}")
        scored = {_content(doc) for doc in chosen}
        return documents.select([row for row, doc in enumerate(documents) if _content(doc) not in scored])


def _chosen(documents: Dataset, limit: int | None, salt: str) -> list[int]:
    """Rows of the items to use, ascending; which ones depends on their content, not on their place."""
    rows = list(range(len(documents)))
    if limit is None or limit >= len(rows):
        return rows
    keys = [hashlib.sha256(f"{salt}:{_content(doc)}".encode()).digest() for doc in documents]
    return sorted(sorted(rows, key=lambda row: (keys[row], row))[:limit])


def _build(definition: Definition, items: Dataset, fewshot: Dataset | None, num_fewshot: int) -> ConfigurableTask:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.config.task import TaskConfig

    splits = {ITEMS: items} if fewshot is None else {ITEMS: items, FEWSHOT: fewshot}
    known = {field.name for field in fields(TaskConfig)}
    config = {key: value for key, value in definition.config.items() if key in known}
    config |= {
        **_splits(config, fewshot is not None),
        "task": definition.name,
        # The documents are read, sliced and processed already.
        "custom_dataset": lambda **_: splits,
        "dataset_kwargs": None,
        "process_docs": None,
        "num_fewshot": num_fewshot,
        "metric_list": _metrics(config.get("metric_list")),
    }
    try:
        return ConfigurableTask(config=config)
    except Exception as error:  # it renders the first item: a column that is missing shows here
        raise AutomixerError(
            f"task {definition.name!r} ({definition.path}) cannot be built: {type(error).__name__} {one_line(error)}; "
            "mend its YAML or data"
        ) from error


def _splits(config: Mapping[str, Any], has_fewshot: bool) -> dict[str, Any]:
    """The split settings of the built task, in the same places as in the task's own YAML.

    lm-eval draws one example more, and so others, where `fewshot_split` and `test_split` are equal or both absent.
    """
    scored = "test_split" if config.get("test_split") is not None else "validation_split"
    fewshot_config = dict(config.get("fewshot_config") or {})
    named = fewshot_config.pop("split", None) or config.get("fewshot_split")
    places = dict.fromkeys(("test_split", "validation_split", "training_split", "fewshot_split"))
    places[scored] = ITEMS
    if has_fewshot:
        places["fewshot_split" if named else "training_split"] = FEWSHOT
    return {**places, "fewshot_config": fewshot_config or None}


def _metrics(metric_list: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Of the task's metrics those that the benchmark table has; accuracy always."""
    named = {metric["metric"] for metric in metric_list or [{"metric": name} for name in METRICS]}
    return [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in METRICS
        if name == "acc" or name in named
    ]


def _golds(task: ConfigurableTask, definition: Definition, split: str, rows: list[int]) -> tuple[int, ...]:
    golds = []
    for row, doc in zip(rows, task.eval_docs, strict=True):
        try:
            gold = gold_option(task, doc)  # pyright: ignore[reportArgumentType]
        except Exception:  # a template or function that chokes on a hidden label
            gold = None
        if gold is None:
            raise AutomixerError(
                f"item {row} of split {split!r} of task {definition.name!r} ({definition.path}) has no gold answer; "
                "use a split whose answers are public"
            )
        golds.append(gold)
    return tuple(golds)


def _content(doc: Any) -> str:
    return json.dumps(doc, sort_keys=True, default=str)
