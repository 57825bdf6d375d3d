"""Whole-document gradients, a few documents at a time: what curvatures are fitted on.

What belongs here: gathering a document's pieces (chunks, windows, both parts of tied weights) into one gradient per
layer. What does not: what a curvature does with them (see `curvature.py`). Scoring never comes here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from automixer_assets.influence.batches import Batch, Document, Span, build_batch, plan_by_document, windows_of
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.language_model import EMBEDDING, HEAD, LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

    from automixer_assets.influence.curvature import LayerGradient

OPEN_ELEMENTS = 2**24
"""Dense gradients held at a time (documents x vocabulary x hidden); at least one document's."""


@dataclass(frozen=True)
class DenseGradient:
    """A full matrix: the output layer, or tied weights."""

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


@dataclass(frozen=True)
class ReferenceSample:
    """The reference documents under one model: implements `curvature.ReferenceGradients`."""

    model: LanguageModel
    documents: Sequence[Document]
    layers: tuple[str, ...]
    max_length: int
    batch_tokens: int

    @property
    def n_documents(self) -> int:
        return len(self.documents)

    def gradients(self) -> Iterator[tuple[int, Mapping[str, LayerGradient]]]:
        """(index, gradient per layer) of every document with a predicted token, longest document first."""
        dense = self.model.tied or HEAD in self.layers
        elements = self.model.head.numel() if dense else 1
        max_windows = max(1, OPEN_ELEMENTS // elements)
        plan = plan_by_document(self.documents, self.max_length, self.batch_tokens, max_windows)
        missing = {i: len(windows_of(i, len(d.tokens), self.max_length)) for i, d in enumerate(self.documents)}
        pieces: dict[int, _Pieces] = {}
        for windows in plan:
            batch = build_batch(windows, self.documents, dtype=self.model.compute_dtype, device=self.model.device)
            for document in batch.documents:
                pieces.setdefault(document, _Pieces())
                missing[document] -= 1
            differentiate(self.model, batch, _Collect(self.model, self.layers, batch.documents, pieces))
            for document in [index for index in pieces if missing[index] == 0]:
                yield document, _assembled(pieces.pop(document), self.model, self.layers)


@dataclass(frozen=True)
class _Collect:
    """A gradient sink that keeps each document's pieces."""

    model: LanguageModel
    layers: tuple[str, ...]
    documents: list[int]  # [B]
    pieces: dict[int, _Pieces]

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.layers

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        if HEAD not in self.layers and not self.model.tied:
            return
        for span in spans:
            pieces = self.pieces[self.documents[span.window]]
            part = delta[span.start : span.stop].T, hidden[span.start : span.stop]  # [V, n], [n, d]
            pieces.head = part[0] @ part[1] if pieces.head is None else pieces.head.addmm_(*part)

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        for index, document in enumerate(batch.documents):
            self.pieces[document].ids.append(batch.inputs[index])
            self.pieces[document].gradients.append(gradients[index])


def _assembled(pieces: _Pieces, model: LanguageModel, layers: tuple[str, ...]) -> dict[str, LayerGradient]:
    """One gradient per layer; tied weights add the input part into the output part, so norms have the cross term."""
    import torch

    def output_part() -> Tensor:
        return pieces.head if pieces.head is not None else torch.zeros_like(model.head)  # [V, d]

    if model.tied:
        matrix, inputs = output_part(), _input_part(pieces)
        inputs.add_to(matrix[None], matrix.new_ones(1))
        return {EMBEDDING: DenseGradient(matrix)}
    gradient: dict[str, LayerGradient] = {}
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
