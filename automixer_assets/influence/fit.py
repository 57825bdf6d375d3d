"""Fit an influence query: validation gradients per task, turned by a curvature into directions (paper, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import (
    Batch,
    Document,
    Loss,
    Span,
    TokenIds,
    build_batch,
    check_vocabulary,
    masked_document,
    plain_document,
    plan_by_length,
)
from automixer_assets.influence.curvature import curvature_named
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.language_model import EMBEDDING, HEAD, LanguageModel, opened
from automixer_assets.influence.query import Direction, InfluenceQuery
from automixer_assets.influence.reference_gradients import ReferenceSample

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def fit_query(
    model: PreTrainedModel,
    validation: Mapping[str, Sequence[tuple[TokenIds, Any]]],
    reference: Sequence[TokenIds],
    *,
    layers: Sequence[str] = ("embedding", "head"),
    curvature: str = "datainf",
    loss: Loss = "mean",
    batch_tokens: int = 4096,
    max_length: int | None = None,
) -> InfluenceQuery:
    """Fit one direction per task (paper, section 4, steps 1 to 3).

    Args:
        model: a Hugging Face causal language model; it is left as it was.
        validation: task -> items (token_ids [T], loss_mask [T]); the mask is True where the token is predicted and
            counts. The first token has no context, so its flag is without effect.
        reference: token ids of the documents that fix the curvature.
        layers: "embedding", "head" or both; tied weights are one matrix under either name, called "embedding".
        curvature: "datainf" (paper) or "identity" (plain gradient product; ignores the reference documents).
        loss: "mean" over counted tokens, or "sum".
        batch_tokens: padded tokens per forward pass.
        max_length: tokens per window, the model's context by default; longer texts are cut into windows that overlap
            by one token and weigh in by their predicted tokens.

    Raises:
        AutomixerError: no task, an empty task or item, no reference document, ids outside the vocabulary, non-finite
            gradients, or a model whose logits are not body x output matrix.
    """
    turn = curvature_named(curvature)
    items = {task: _items(task, given, loss) for task, given in validation.items()}
    if not items:
        raise AutomixerError("the validation set names no task: give {task: [(token_ids, loss_mask), ...]}")
    documents = [plain_document(ids, loss, f"reference document {i}") for i, ids in enumerate(reference)]
    every = [*documents, *(item for of_task in items.values() for item in of_task)]
    with opened(model) as parts:
        _check_vocabulary(parts, items, documents)
        length = parts.max_length(max_length, max(len(document.tokens) for document in every))
        matrices = parts.layers(layers)
        v = _validation_gradients(parts, items, matrices, length, batch_tokens)
        curved = turn(v, ReferenceSample(parts, documents, matrices, length, batch_tokens))
    norms = {layer: v[layer].flatten(1).norm(dim=1).tolist() for layer in matrices}  # layer -> [m]
    directions = tuple(
        Direction(task, curvature, curved.damping, v_norm={layer: norms[layer][k] for layer in matrices})
        for k, task in enumerate(items)
    )
    return InfluenceQuery(directions=directions, loss=loss, tied=parts.tied, r=curved.r, v=v)


def _items(task: str, given: Sequence[tuple[TokenIds, Any]], loss: Loss) -> list[Document]:
    if len(given) == 0:
        raise AutomixerError(f"validation task '{task}' has no items: give some or leave the task out")
    items = [
        masked_document(ids, mask, loss, f"validation item {i} of task '{task}'") for i, (ids, mask) in enumerate(given)
    ]
    # The task's gradient is a mean over its items, so 1/q goes into every token's weight.
    return [replace(item, token_weight=item.token_weight / len(items)) for item in items]


def _check_vocabulary(model: LanguageModel, items: Mapping[str, list[Document]], reference: list[Document]) -> None:
    for task, of_task in items.items():
        check_vocabulary(of_task, model.vocabulary, lambda i, task=task: f"validation item {i} of task '{task}'")
    check_vocabulary(reference, model.vocabulary, lambda i: f"reference document {i}")


def _validation_gradients(
    model: LanguageModel,
    items: Mapping[str, list[Document]],
    layers: tuple[str, ...],
    max_length: int,
    batch_tokens: int,
) -> dict[str, Tensor]:
    """v: per layer [m, V, d], the mean over a task's items of their gradients (paper, section 4, step 1)."""
    import torch

    v = {
        layer: torch.zeros(len(items), *model.shape(layer), dtype=model.compute_dtype, device=model.device)
        for layer in layers
    }
    for k, (task, of_task) in enumerate(items.items()):
        sink = _Sum(model, {layer: v[layer][k] for layer in layers})
        for windows in plan_by_length(of_task, max_length, batch_tokens):
            differentiate(model, build_batch(windows, of_task, dtype=model.compute_dtype, device=model.device), sink)
        if not all(bool(v[layer][k].isfinite().all()) for layer in layers):
            raise AutomixerError(
                f"the validation gradient of task '{task}' is not finite: check that the checkpoint's losses are"
            )
    return v


@dataclass(frozen=True)
class _Sum:
    """A gradient sink that adds all documents up: layer -> [V, d]."""

    model: LanguageModel
    total: Mapping[str, Tensor]

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.total

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        matrix = self.total.get(EMBEDDING if self.model.tied else HEAD)
        if matrix is not None:
            matrix.addmm_(delta.T, hidden)

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        self.total[EMBEDDING].index_put_((batch.inputs.flatten(),), gradients.flatten(0, 1), accumulate=True)
