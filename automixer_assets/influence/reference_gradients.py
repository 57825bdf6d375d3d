"""The reference sample under one model: what curvatures are fitted on.

What belongs here: gathering a document's pieces (chunks, windows, both parts of tied weights) into one gradient per
layer, a few documents at a time; running the sample with drawn labels for Kronecker factors. What does not: what a
curvature does with them (see `curvature.py`). Scoring never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import (
    Batch,
    Document,
    Span,
    Window,
    build_batch,
    plan_by_document,
    plan_by_length,
    windows_of,
)
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.kronecker import KroneckerFactor, Moments
from automixer_assets.influence.language_model import EMBEDDING, HEAD, LanguageModel
from automixer_assets.influence.memory import buffer_elements

if TYPE_CHECKING:
    from torch import Tensor

    from automixer_assets.influence.curvature import LayerGradient

OPEN_ELEMENTS = 2**24
"""Dense gradients held at a time (documents x entries of their matrices); at least one document's."""


@dataclass(frozen=True)
class DenseGradient:
    """A full matrix: the output layer, tied weights, or a linear layer."""

    matrix: Tensor  # [V, d]

    def squared_norm(self) -> float:
        return float(self.matrix.flatten().dot(self.matrix.flatten()))

    def dots(self, directions: Tensor) -> Tensor:
        return directions.flatten(1) @ self.matrix.flatten()  # [m]

    def add_to(self, directions: Tensor, weights: Tensor) -> None:
        directions.flatten(1).addr_(weights, self.matrix.flatten())


@dataclass(frozen=True)
class RowGradient:
    """An embedding's gradient: zero but in the rows of the document's own tokens, each listed once."""

    ids: Tensor  # [U]
    rows: Tensor  # [U, d]

    def squared_norm(self) -> float:
        return float(self.rows.square().sum())

    def dots(self, directions: Tensor) -> Tensor:
        return directions[:, self.ids].flatten(1) @ self.rows.flatten()  # [m]

    def add_to(self, directions: Tensor, weights: Tensor) -> None:
        directions[:, self.ids] += weights[:, None, None] * self.rows


@dataclass
class _Pieces:
    """What has been seen of one document."""

    head: Tensor | None = None  # [V, d]
    ids: list[Tensor] = field(default_factory=list)  # each [T]
    gradients: list[Tensor] = field(default_factory=list)  # each [T, d]
    linears: dict[str, Tensor] = field(default_factory=dict)  # layer -> [rows, columns]


@dataclass(frozen=True)
class ReferenceSample:
    """The reference documents under one model: implements `curvature.ReferenceGradients`."""

    model: LanguageModel
    documents: Sequence[Document]
    layers: tuple[str, ...]
    max_length: int
    batch_tokens: int
    seed: int
    on_tokens: Callable[[int], None]  # called after every batch with its predicted tokens

    @property
    def n_documents(self) -> int:
        return len(self.documents)

    @property
    def n_tokens(self) -> int:
        return sum(document.n_counted for document in self.documents)

    def remedy(self) -> str:
        return self.model.remedy()

    def factors(self) -> dict[str, tuple[KroneckerFactor, ...]]:
        """Kronecker factors, every token's label drawn from the model's softmax and every token's loss of weight 1.

        Document i draws by numpy's default generator under [seed, i], token p by its p-th number: labels depend on
        neither batches nor the other documents.
        """
        documents = [replace(document, token_weight=1.0) for document in self.documents]
        draws = [np.random.default_rng([self.seed, i]).random(len(d.tokens)) for i, d in enumerate(documents)]
        moments = Moments.empty(self.model, self.layers)
        for windows in plan_by_length(documents, self.max_length, self.batch_tokens):
            batch = self._batch(windows, documents)
            of_batch = np.concatenate([draws[w.document][w.start + 1 : w.stop] for w in windows])  # [N]
            nll = differentiate(self.model, batch, moments, draws=batch.weights.new_tensor(of_batch))
            self._refuse_nonfinite(nll, batch)
            self.on_tokens(len(nll))
        return moments.factors(self.n_tokens)

    def _refuse_nonfinite(self, nll: Tensor, batch: Batch) -> None:
        bad = (~nll.isfinite()).nonzero()  # [k, 1]
        if len(bad):
            window = int(np.searchsorted(np.cumsum(batch.row_counts), int(bad[0]), side="right"))
            raise AutomixerError(
                f"reference document {batch.documents[window]} has a non-finite loss: {self.model.remedy()}, "
                "or leave the document out"
            )

    def _batch(self, windows: list[Window], documents: Sequence[Document]) -> Batch:
        return build_batch(windows, documents, dtype=self.model.compute_dtype, device=self.model.device)

    def gradients(self) -> Iterator[tuple[int, Mapping[str, LayerGradient]]]:
        """(index, gradient per layer) of every document with a predicted token, longest document first."""
        max_windows = max(1, buffer_elements(self.model.device, OPEN_ELEMENTS) // self._dense_elements())
        plan = plan_by_document(self.documents, self.max_length, self.batch_tokens, max_windows)
        missing = {i: len(windows_of(i, len(d.tokens), self.max_length)) for i, d in enumerate(self.documents)}
        pieces: dict[int, _Pieces] = {}
        for windows in plan:
            batch = self._batch(windows, self.documents)
            for document in batch.documents:
                pieces.setdefault(document, _Pieces())
                missing[document] -= 1
            nll = differentiate(self.model, batch, _Collect(self.model, self.layers, batch.documents, pieces))
            for document in [index for index in pieces if missing[index] == 0]:
                yield document, _assembled(pieces.pop(document), self.model, self.layers)
            self.on_tokens(len(nll))

    def _dense_elements(self) -> int:
        """Entries of one document's dense gradients; an untied embedding's is held by rows."""
        dense = [layer for layer in self.layers if layer != EMBEDDING or self.model.tied]
        return max(1, sum(rows * columns for rows, columns in map(self.model.shape, dense)))


@dataclass(frozen=True)
class _Collect:
    """A gradient sink that keeps each document's pieces."""

    model: LanguageModel
    layers: tuple[str, ...]
    documents: list[int]  # [B]
    pieces: dict[int, _Pieces]

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.layers

    def wanted_linears(self) -> tuple[str, ...]:
        return tuple(layer for layer in self.layers if layer in self.model.linears)

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        if (EMBEDDING if self.model.tied else HEAD) not in self.layers:
            return
        for span in spans:
            pieces = self.pieces[self.documents[span.window]]
            part = delta[span.start : span.stop].T, hidden[span.start : span.stop]  # [V, n], [n, d]
            pieces.head = part[0] @ part[1] if pieces.head is None else pieces.head.addmm_(*part)

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        for index, document in enumerate(batch.documents):
            self.pieces[document].ids.append(batch.inputs[index])
            self.pieces[document].gradients.append(gradients[index])

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        for index, document in enumerate(batch.documents):
            part, linears = left[index].T @ right[index], self.pieces[document].linears  # [rows, columns]
            linears[layer] = part if layer not in linears else linears[layer].add_(part)


def _assembled(pieces: _Pieces, model: LanguageModel, layers: tuple[str, ...]) -> dict[str, LayerGradient]:
    """One gradient per layer; tied weights add the input part into the output part, so norms have the cross term."""
    import torch

    def output_part() -> Tensor:
        return pieces.head if pieces.head is not None else torch.zeros_like(model.head)  # [V, d]

    gradient: dict[str, LayerGradient] = {name: DenseGradient(matrix) for name, matrix in pieces.linears.items()}
    if model.tied and EMBEDDING in layers:
        matrix, inputs = output_part(), _input_part(pieces)
        inputs.add_to(matrix[None], matrix.new_ones(1))
        return {**gradient, EMBEDDING: DenseGradient(matrix)}
    if EMBEDDING in layers:
        gradient[EMBEDDING] = _input_part(pieces)
    if HEAD in layers:
        gradient[HEAD] = DenseGradient(output_part())
    return gradient


def _input_part(pieces: _Pieces) -> RowGradient:
    import torch

    ids, inverse = torch.unique(torch.cat(pieces.ids), return_inverse=True)  # [U], [T]
    tokens = torch.cat(pieces.gradients)  # [T, d]
    rows = tokens.new_zeros(len(ids), tokens.shape[1])  # [U, d]
    return RowGradient(ids, rows.index_put_((inverse,), tokens, accumulate=True))
