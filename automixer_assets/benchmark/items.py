"""Scored items as text and tokens: exactly what lm-eval gives to the model, with the gold option.

The gradient items are the paper's validation sequences (section 4): question and gold answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from automixer_assets.benchmark.harness import harness
from automixer_assets.benchmark.tasks import ITEM_SETS, ItemSet, LoadedTask, load_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GRADIENT_SCHEMA = {
    "task": pl.String,
    "item_hash": pl.String,
    "text": pl.String,
    "token_ids": pl.List(pl.Int32),
    "sequence_mask": pl.List(pl.Boolean),
    "answer_mask": pl.List(pl.Boolean),
}
ITEM_SETS_SCHEMA = {"task": pl.String, "item_set": pl.String, "item_hash": pl.String, "doc_index": pl.Int64}


@dataclass(frozen=True)
class RenderedItem:
    """One item as lm-eval asks it: (context, continuation) per option, of which `gold` is the right one."""

    task: str
    doc_index: int
    item_hash: str
    options: tuple[tuple[str, str], ...]
    gold: int
    delimiter: str

    @property
    def context(self) -> str:
        return self.options[self.gold][0]

    @property
    def continuation(self) -> str:
        return self.options[self.gold][1]

    @property
    def text(self) -> str:
        """Question and gold answer."""
        return self.context + self.continuation

    @property
    def answer(self) -> str:
        """The gold answer without the delimiter that separates it from the question."""
        return self.continuation.removeprefix(self.delimiter)


Rendered = dict[ItemSet, list[RenderedItem]]


@dataclass(frozen=True)
class ValidationItems:
    """What `write_validation_items` wrote: items per (task, item set), predicted tokens per task, items left out."""

    folder: Path
    counts: dict[tuple[str, ItemSet], int]
    gradient_tokens: dict[str, int]
    dropped: dict[tuple[str, ItemSet], int]


def render_items(loaded: LoadedTask) -> list[RenderedItem]:
    """The task's items in order, rendered by lm-eval's own functions.

    `item_hash` is the sha256 (hex) of question and gold answer without few-shot examples, so that an item keeps its
    hash whatever it is shown with.
    """
    task: Any = loaded.task
    task.set_fewshot_seed(loaded.seed)
    return [
        _render(loaded, doc, doc_index, gold)
        for doc, doc_index, gold in zip(loaded.documents, loaded.doc_indices, loaded.golds, strict=True)
    ]


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of context and continuation, split as lm-eval's `HFLM.loglikelihood` splits them.

    Spaces at the end of the context belong to the continuation; the pair is encoded as one string, for a token may
    span the border. An empty context becomes the prefix token.
    """
    encode: Any = tokenizer.encode
    prefix: Any = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if context == "":
        ids = encode(continuation, add_special_tokens=False)
        return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)
    stripped = context.rstrip()
    continuation, context = context[len(stripped) :] + continuation, stripped
    begun = prefix is not None and context.startswith(str(tokenizer.decode(prefix)))
    options = {"add_special_tokens": False} if begun else {}
    whole = encode(context + continuation, **options)
    border = len(encode(context, **options))
    return whole[:border], whole[border:]


def write_validation_items(
    tasks: Tasks,
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    *,
    cache: Path,
    seed: int = 0,
    max_length: int | None = None,
    shared: Literal["refuse", "drop"] = "refuse",
) -> ValidationItems:
    """Write `gradient_items.parquet` and `item_sets.parquet` (docs/tables.md) to `out`.

    Items longer than `max_length` tokens lose their beginning, as in lm-eval; None keeps them whole. An item that
    stands in several sets is refused, or, with `shared="drop"`, stays in the final set before the selection set before
    the gradient set (published benchmarks do repeat some); `only_listed` then gives the runner the same items.

    Raises:
        AutomixerError: as `load_tasks`; an item stands in two item sets; a gold answer has no tokens.
    """
    rendered: Rendered = {
        item_set: _rendered(load_tasks(tasks, base, item_set, cache=cache, seed=seed)) for item_set in ITEM_SETS
    }
    before = _counts(rendered)
    if shared == "drop":
        rendered = drop_shared_items(rendered)
    refuse_shared_items(rendered)
    counts = _counts(rendered)
    gradient = pl.DataFrame(
        [_gradient_row(item, tokenizer, max_length) for item in rendered["gradient"]], GRADIENT_SCHEMA
    )
    out.mkdir(parents=True, exist_ok=True)
    gradient.write_parquet(out / "gradient_items.parquet")
    _item_sets(rendered).write_parquet(out / "item_sets.parquet")
    tokens = gradient.group_by("task", maintain_order=True).agg(pl.col("sequence_mask").list.sum().sum())
    dropped = {key: count - counts.get(key, 0) for key, count in before.items() if count != counts.get(key, 0)}
    return ValidationItems(out, counts, dict(tokens.iter_rows()), dropped)


def only_listed(loaded: Mapping[str, LoadedTask], item_sets: pl.DataFrame) -> dict[str, LoadedTask]:
    """The loaded tasks over the items that `item_sets.parquet` lists for their item set.

    Raises:
        AutomixerError: a task has no item there, or its items are no longer those that were listed.
    """
    restricted = {}
    for name, task in loaded.items():
        rows = item_sets.filter(pl.col("task") == name, pl.col("item_set") == task.item_set)
        listed = dict(rows.select("doc_index", "item_hash").iter_rows())
        positions = [position for position, index in enumerate(task.doc_indices) if index in listed]
        _refuse_changed_items(task, listed)
        if not positions:
            raise AutomixerError(
                f"item_sets.parquet lists no {task.item_set} item of task {name!r}; materialise it again"
            )
        restricted[name] = task if len(positions) == len(task) else task.keep(positions)
    return restricted


def _refuse_changed_items(task: LoadedTask, listed: Mapping[int, str]) -> None:
    """Rows are looked up by number: the text behind each must still be the one whose hash was compared."""
    with harness():
        found = {item.doc_index: item.item_hash for item in render_items(task)}
    changed = [index for index, item_hash in listed.items() if found.get(index) != item_hash]
    if changed:
        raise AutomixerError(
            f"task {task.name!r}: {len(changed)} of its {task.item_set} items, the first of them item {changed[0]}, "
            "changed since validation_items was made; materialise validation_items again"
        )


def refuse_shared_items(rendered: Rendered) -> None:
    """Refuse item sets that share an item: scores would then be selected on what they are judged by."""
    seen: dict[tuple[str, str], tuple[ItemSet, int]] = {}
    for item_set, items in rendered.items():
        for item in items:
            other, doc_index = seen.setdefault((item.task, item.item_hash), (item_set, item.doc_index))
            if other != item_set:
                raise AutomixerError(
                    f"task {item.task!r}: item {doc_index} of the {other} items is also item {item.doc_index} of the "
                    f"{item_set} items ({item.text[:80]!r}); remove it from one, or give disjoint slices in "
                    f"tasks.splits.{item.task}"
                )


def drop_shared_items(rendered: Rendered) -> Rendered:
    """Each item in one set only: the final set keeps all of its own, the gradient set gives way to both others."""
    taken: set[tuple[str, str]] = set()
    kept: Rendered = {}
    for item_set in reversed(ITEM_SETS):
        kept[item_set] = [item for item in rendered[item_set] if (item.task, item.item_hash) not in taken]
        empty = {item.task for item in rendered[item_set]} - {item.task for item in kept[item_set]}
        if empty:
            raise AutomixerError(
                f"every {item_set} item of task {min(empty)!r} is in a later item set too; "
                f"give disjoint slices in tasks.splits.{min(empty)}"
            )
        taken |= {(item.task, item.item_hash) for item in kept[item_set]}
    return {item_set: kept[item_set] for item_set in ITEM_SETS}


def _item_sets(rendered: Rendered) -> pl.DataFrame:
    rows = [
        {"task": item.task, "item_set": item_set, "item_hash": item.item_hash, "doc_index": item.doc_index}
        for item_set, items in rendered.items()
        for item in items
    ]
    return pl.DataFrame(rows, schema=ITEM_SETS_SCHEMA)


def _rendered(loaded: Mapping[str, LoadedTask]) -> list[RenderedItem]:
    with harness():
        return [item for task in loaded.values() for item in render_items(task)]


def _render(loaded: LoadedTask, doc: Any, doc_index: int, gold: int) -> RenderedItem:
    task = loaded.task
    options = _options(task, doc, task.config.num_fewshot or 0)
    context, continuation = options[gold] if not task.config.num_fewshot else _options(task, doc, 0)[gold]
    digest = hashlib.sha256((context + continuation).encode()).hexdigest()
    return RenderedItem(loaded.name, doc_index, digest, options, gold, task.config.target_delimiter)


def _options(task: Any, doc: Any, num_fewshot: int) -> tuple[tuple[str, str], ...]:
    """(context, continuation) per option, by the two calls that lm-eval's own evaluation makes."""
    context = task.fewshot_context(doc, num_fewshot=num_fewshot, gen_prefix=task.doc_to_prefix(doc))
    requests = task.construct_requests(doc=doc, ctx=context, metadata=(task.config.task, 0, 1))
    return tuple((request.arguments[0], request.arguments[1]) for request in requests)


def _gradient_row(item: RenderedItem, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> dict[str, Any]:
    context, answer = encode_pair(tokenizer, item.context, item.continuation)
    if not answer:
        raise AutomixerError(
            f"task {item.task!r}: the gold answer of item {item.doc_index} has no tokens; mend the item"
        )
    ids = context + answer
    mask = [False] * len(context) + [True] * len(answer)
    if max_length is not None:
        ids, mask = ids[-max_length:], mask[-max_length:]
    return {
        "task": item.task,
        "item_hash": item.item_hash,
        "text": item.text,
        "token_ids": ids,
        "sequence_mask": [position > 0 for position in range(len(ids))],
        "answer_mask": [position > 0 and is_answer for position, is_answer in enumerate(mask)],
    }


def _counts(rendered: Rendered) -> dict[tuple[str, ItemSet], int]:
    counts: dict[tuple[str, ItemSet], int] = {}
    for item_set, items in rendered.items():
        for item in items:
            counts[(item.task, item_set)] = counts.get((item.task, item_set), 0) + 1
    return counts
