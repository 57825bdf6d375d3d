"""Fit an influence query: validation gradients per task, turned by a curvature into directions (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import (
    Batch,
    Document,
    Loss,
    Span,
    TokenIds,
    check_vocabulary,
    masked_document,
    plain_document,
    plan_by_length,
)
from automixer_assets.influence.curvature import DAMPING, curvature_named
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.language_model import EMBEDDING, HEAD, Backend, LanguageModel, opened
from automixer_assets.influence.memory import batch_tokens_on, require_memory
from automixer_assets.influence.query import Direction, InfluenceQuery
from automixer_assets.influence.reference_sample import ReferenceSample

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from automixer_assets.influence.curvature import Curved


Pool = Mapping[str, Mapping[str, float]]
"""Direction -> task -> weight: a direction that is a weighted sum of tasks."""
OnProgress = Callable[[int, int], None]
"""Called after every batch with (predicted tokens done, predicted tokens in all)."""


def fit_query(
    model: PreTrainedModel,
    validation: Mapping[str, Sequence[tuple[TokenIds, Any]]],
    reference: Sequence[TokenIds],
    *,
    layers: Sequence[str] = ("embedding", "head"),
    curvature: str = "datainf",
    damping: float = DAMPING,
    pool: Pool | None = None,
    loss: Loss = "mean",
    seed: int = 0,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    compile: bool = False,
    dtype: str | None = None,
    on_progress: OnProgress | None = None,
) -> InfluenceQuery:
    """Fit one direction per task, or per pool of tasks (paper, section 4, steps 1 to 3), on the model's own device.

    Args:
        model: a Hugging Face causal language model; it is left as it was. In half precision its head, losses and all
            sums are float32 nevertheless.
        validation: task -> items (token_ids [T], loss_mask [T]); the mask is True where the token is predicted and
            counts. The first token has no context, so its flag is without effect.
        reference: token ids of the documents that fix the curvature.
        layers: "embedding", "head", "last_block" (every linear layer of the last transformer block) and names of
            linear modules; tied weights are one matrix under either name, called "embedding". Biases do not count.
        curvature: "datainf" (paper), "identity" (plain gradient product; ignores the reference documents), or "kfac"
            (Kronecker factors from labels drawn under `seed`; embedding and head only).
        damping: as a share of the mean curvature; 0.1 is the paper's.
        pool: direction -> task -> weight, for where one direction per task ([V, d] per layer) is too much: only the
            pools are held. A pool's scores are that weighted sum of its tasks' scores, influence being linear in them.
        loss: "mean" over counted tokens, or "sum".
        batch_tokens: padded tokens per forward pass; 4096 on a CPU, more on a GPU with its memory.
        max_length: tokens per window, the model's context by default; longer texts are cut into windows that overlap
            by one token and weigh in by their predicted tokens.
        compile: run the body through torch.compile; embedding and head only.
        dtype: "bfloat16" or "float16" for the matrix products of the body (autocast).
        on_progress: called after every batch; passes over the reference documents count each time.

    Raises:
        AutomixerError: no task, an empty task or item, a task in no pool, too small a reference sample, ids outside
            the vocabulary, non-finite gradients, unknown layers, more directions than fit into memory, or a model
            whose logits are not body x output matrix.
    """
    rule = curvature_named(curvature)
    items = {task: _items(task, given, loss) for task, given in validation.items()}
    if not items:
        raise AutomixerError("the validation set names no task: give {task: [(token_ids, loss_mask), ...]}")
    pools = pool if pool is not None else {task: {task: 1.0} for task in items}
    of_pools = _pooled(items, pools)
    documents = [plain_document(ids, loss, f"reference document {i}") for i, ids in enumerate(reference)]
    of_tasks = [item for of_pool in of_pools.values() for item in of_pool]
    ticks = _Ticks(on_progress, _counted(of_tasks) + rule.passes * _counted(documents))
    with opened(model, Backend(compile, dtype)) as parts:
        _check_vocabulary(parts, items, documents)
        length = parts.max_length(max_length, max(len(document.tokens) for document in [*documents, *of_tasks]))
        batch = batch_tokens_on(parts.device, batch_tokens)
        matrices = parts.layers(layers)
        require_memory(parts.device, len(pools), [parts.shape(layer) for layer in matrices], parts.compute_dtype)
        v = _validation_gradients(parts, of_pools, matrices, length, batch, ticks.add)
        curved = rule.turn(v, ReferenceSample(parts, documents, matrices, length, batch, seed, ticks.add), damping)
    return _query(pools, curvature, curved, v, loss, parts.tied)


def _query(
    pools: Pool, curvature: str, curved: Curved, v: Mapping[str, Tensor], loss: Loss, tied: bool
) -> InfluenceQuery:
    norms = {layer: v[layer].flatten(1).norm(dim=1).tolist() for layer in v}  # layer -> [m]
    directions = tuple(
        Direction(name, curvature, curved.damping, {layer: norms[layer][k] for layer in v}, dict(weights))
        for k, (name, weights) in enumerate(pools.items())
    )
    return InfluenceQuery(directions=directions, loss=loss, tied=tied, r=curved.r, v=v)


def tokens_of_fit(
    validation: Mapping[str, Sequence[tuple[TokenIds, Any]]],
    reference: Sequence[TokenIds],
    curvature: str,
    pool: Pool | None = None,
) -> int:
    """What `fit_query`'s progress adds up to: predicted tokens over all its passes."""
    items = {task: _items(task, given, "sum") for task, given in validation.items()}
    of_tasks = [
        item for of_pool in _pooled(items, pool or {task: {task: 1.0} for task in items}).values() for item in of_pool
    ]
    documents = [plain_document(ids, "sum", f"reference document {i}") for i, ids in enumerate(reference)]
    return _counted(of_tasks) + curvature_named(curvature).passes * _counted(documents)


@dataclass
class _Ticks:
    """Counts predicted tokens over all passes of a fit."""

    on_progress: OnProgress | None
    total: int
    done: int = 0

    def add(self, n_tokens: int) -> None:
        self.done += n_tokens
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


def _counted(documents: Sequence[Document]) -> int:
    return sum(document.n_counted for document in documents)


def _items(task: str, given: Sequence[tuple[TokenIds, Any]], loss: Loss) -> list[Document]:
    if len(given) == 0:
        raise AutomixerError(f"validation task '{task}' has no items: give some or leave the task out")
    items = [
        masked_document(ids, mask, loss, f"validation item {i} of task '{task}'") for i, (ids, mask) in enumerate(given)
    ]
    # The task's gradient is a mean over its items, so 1/q goes into every token's weight.
    return [replace(item, token_weight=item.token_weight / len(items)) for item in items]


def _pooled(items: Mapping[str, list[Document]], pools: Pool) -> dict[str, list[Document]]:
    """Pool -> the items of its tasks, a task's weight in every token's."""
    given = {task for weights in pools.values() for task in weights}
    unknown, unused = sorted(given - set(items)), sorted(set(items) - given)
    if unknown:
        raise AutomixerError(f"the pools name task '{unknown[0]}', which has no validation items: give some or drop it")
    if unused:
        raise AutomixerError(f"task '{unused[0]}' is in no pool: give it a weight in one, or leave its items out")
    empty = [name for name, weights in pools.items() if not any(weights.values())]
    if empty:
        raise AutomixerError(f"pool '{empty[0]}' has no task of a weight other than 0: give {{task: weight}}")
    return {
        name: [
            replace(item, token_weight=item.token_weight * weight)
            for task, weight in weights.items()
            for item in items[task]
        ]
        for name, weights in pools.items()
    }


def _check_vocabulary(model: LanguageModel, items: Mapping[str, list[Document]], reference: list[Document]) -> None:
    for task, of_task in items.items():
        check_vocabulary(of_task, model, lambda i, task=task: f"validation item {i} of task '{task}'")
    check_vocabulary(reference, model, lambda i: f"reference document {i}")


def _validation_gradients(
    model: LanguageModel,
    items: Mapping[str, list[Document]],
    layers: tuple[str, ...],
    max_length: int,
    batch_tokens: int,
    on_tokens: Callable[[int], None],
) -> dict[str, Tensor]:
    """v: per layer [m, rows, columns], the mean over a task's items of their gradients (paper, section 4, step 1)."""
    import torch

    v = {
        layer: torch.zeros(len(items), *model.shape(layer), dtype=model.compute_dtype, device=model.device)
        for layer in layers
    }
    for k, (task, of_task) in enumerate(items.items()):
        sink = _Sum(model, {layer: v[layer][k] for layer in layers})
        for windows in plan_by_length(of_task, max_length, batch_tokens, model.packed):
            batch = model.batch(windows, of_task)
            on_tokens(len(differentiate(model, batch, sink)))
        if not all(bool(v[layer][k].isfinite().all()) for layer in layers):
            raise AutomixerError(
                f"the validation gradient of task '{task}' is not finite: {model.remedy()}, or leave the task out"
            )
    return v


@dataclass(frozen=True)
class _Sum:
    """A gradient sink that adds all documents up: layer -> [rows, columns]."""

    model: LanguageModel
    total: Mapping[str, Tensor]

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.total

    def wanted_linears(self) -> tuple[str, ...]:
        return tuple(layer for layer in self.total if layer in self.model.linears)

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        matrix = self.total.get(EMBEDDING if self.model.tied else HEAD)
        if matrix is not None:
            matrix.addmm_(delta.T, hidden)

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        self.total[EMBEDDING].index_put_((batch.ids,), gradients, accumulate=True)

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        self.total[layer].addmm_(left.T, right)
