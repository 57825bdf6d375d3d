"""Norms, inner products and weighted sums of the gradients of whole documents, which are never all held.

Two gradient sinks for the two passes of DataInf (paper, section 4, step 3). A document's windows follow one another, so
one document at most is open: only the gradient of one that is cut, by a chunk of logits or by a batch, is held as a
matrix until its last window. Every other is formed a block of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from automixer_assets.influence.batches import Batch, Document, Span
from automixer_assets.influence.contraction import SPAN_TOKENS, by_token, gradient_blocks, inner_products
from automixer_assets.influence.language_model import EMBEDDING, HEAD, LanguageModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Open:
    """The gradient so far of the one document that is not complete."""

    seen: int  # tokens
    gradient: Tensor  # [rows, columns], or [U, d] for the embedding's rows of the document's own ids


@dataclass(frozen=True)
class Products:
    """A gradient sink: squared norm of every document's gradient, and its inner products with m directions."""

    model: LanguageModel
    documents: Sequence[Document]
    directions: Mapping[str, Tensor]  # layer -> [m, rows, columns]
    squared: dict[str, Tensor]  # layer -> [n] float64
    dots: dict[str, Tensor]  # layer -> [n, m] float64
    open: dict[str, _Open] = field(default_factory=dict)  # by part: a linear layer's name, "head" or "embedding"
    output_rows: dict[int, Tensor] = field(default_factory=dict)  # tied: document -> its output part at its own ids
    windows: Sequence[int] = ()  # document of each window of the batch

    @staticmethod
    def empty(model: LanguageModel, documents: Sequence[Document], directions: Mapping[str, Tensor]) -> Products:
        import torch

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(len(documents), *shape, dtype=torch.float64, device=model.device)

        return Products(
            model,
            documents,
            directions,
            squared={layer: zeros() for layer in directions},
            dots={layer: zeros(len(directions[layer])) for layer in directions},
        )

    def of_batch(self, batch: Batch) -> Products:
        """The same sink for one batch."""
        return replace(self, windows=batch.documents)

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.directions

    def wanted_linears(self) -> tuple[str, ...]:
        return tuple(layer for layer in self.directions if layer in self.model.linears)

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        layer = EMBEDDING if self.model.tied else HEAD
        if layer in self.directions:
            self._matrix(HEAD, layer, delta, hidden, spans)

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        self._matrix(layer, layer, left, right, batch.spans())

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        for document, span in _by_document(batch.documents, batch.spans()):
            self._rows(document, gradients[span.start : span.stop])

    def _matrix(self, part: str, layer: str, left: Tensor, right: Tensor, spans: Sequence[Span]) -> None:
        """Gradients left^T right: whole documents together, block by block; the pieces of a cut one are added up."""
        whole: list[tuple[int, Span]] = []
        for document, span in _by_document(self.windows, spans):
            if span.stop - span.start == self.documents[document].n_counted:
                whole.append((document, span))
            else:
                self._piece(part, layer, document, left[span.start : span.stop], right[span.start : span.stop])
        if not whole:
            return
        rows = slice(whole[0][1].start, whole[-1][1].stop)  # a cut document is first or last of its chunk
        local = [Span(i, span.start - rows.start, span.stop - rows.start) for i, (_, span) in enumerate(whole)]
        squared, dots = _products(self.directions[layer], left[rows], right[rows], local)
        ids = [document for document, _ in whole]
        self.squared[layer][ids] += squared.double()
        self.dots[layer][ids] += dots.double()
        if part == HEAD and self.model.tied:
            for document, span in whole:
                own = self._own_ids(document)[0]
                tokens = slice(span.start, span.stop)
                self.output_rows[document] = left[tokens][:, own].T @ right[tokens]  # [U, d]

    def _piece(self, part: str, layer: str, document: int, left: Tensor, right: Tensor) -> None:
        import torch

        if part not in self.open:
            self.open[part] = _Open(0, torch.zeros_like(self.directions[layer][0]))
        piece = self.open[part]
        piece.gradient.addmm_(left.T, right)
        piece.seen += len(left)
        if piece.seen == self.documents[document].n_counted:
            gradient = self.open.pop(part).gradient
            self._add(layer, document, gradient.flatten(), self.directions[layer].flatten(1))
            if part == HEAD and self.model.tied:
                self.output_rows[document] = gradient[self._own_ids(document)[0]]

    def _rows(self, document: int, gradients: Tensor) -> None:
        """The embedding's gradient, which has rows at the document's own ids alone: tokens are added up by their id."""
        ids, inverse = self._own_ids(document)  # [U], [n - 1]
        rows = self.open.pop(EMBEDDING, None) or _Open(0, gradients.new_zeros(len(ids), gradients.shape[1]))
        of_tokens = inverse[rows.seen : rows.seen + len(gradients)]
        rows.gradient.index_put_((of_tokens,), gradients, accumulate=True)
        rows.seen += len(gradients)
        if rows.seen < self.documents[document].n_counted:
            self.open[EMBEDDING] = rows
            return
        flat = rows.gradient.flatten()
        self._add(EMBEDDING, document, flat, self.directions[EMBEDDING][:, ids].flatten(1))
        if self.model.tied:  # one matrix: |output part + input part|^2 has a cross term
            self.squared[EMBEDDING][document] += 2 * self.output_rows.pop(document).flatten().dot(flat).double()

    def _add(self, layer: str, document: int, gradient: Tensor, directions: Tensor) -> None:
        self.squared[layer][document] += gradient.dot(gradient).double()
        self.dots[layer][document] += (directions @ gradient).double()

    def _own_ids(self, document: int) -> tuple[Tensor, Tensor]:
        """The distinct input ids [U] of a document, and which of them each input has [n - 1]."""
        import torch

        ids, inverse = np.unique(self.documents[document].tokens[:-1].astype(np.int64), return_inverse=True)
        return torch.from_numpy(ids).to(self.model.device), torch.from_numpy(inverse).to(self.model.device)


@dataclass(frozen=True)
class WeightedSum:
    """A gradient sink: m sums over documents of weight x gradient, [m, rows, columns] per layer."""

    model: LanguageModel
    weights: Mapping[str, Tensor]  # layer -> [n, m]
    total: dict[str, Tensor]  # layer -> [m, rows, columns]
    windows: Sequence[int] = ()  # document of each window of the batch

    @staticmethod
    def empty(model: LanguageModel, layers: Sequence[str], weights: Mapping[str, Tensor]) -> WeightedSum:
        total = {layer: model.head.new_zeros(weights[layer].shape[1], *model.shape(layer)) for layer in layers}
        return WeightedSum(model, {layer: weights[layer].to(total[layer]) for layer in layers}, total)

    def of_batch(self, batch: Batch) -> WeightedSum:
        """The same sink for one batch."""
        return replace(self, windows=batch.documents)

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.total

    def wanted_linears(self) -> tuple[str, ...]:
        return tuple(layer for layer in self.total if layer in self.model.linears)

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        layer = EMBEDDING if self.model.tied else HEAD
        if layer in self.total:
            self._matrix(layer, delta, hidden, spans)

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        self._matrix(layer, left, right, batch.spans())

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        weights = self._of_tokens(EMBEDDING, batch.spans())  # [N, m]
        for k, total in enumerate(self.total[EMBEDDING]):
            total.index_put_((batch.ids,), gradients * weights[:, k, None], accumulate=True)

    def _matrix(self, layer: str, left: Tensor, right: Tensor, spans: Sequence[Span]) -> None:
        total = self.total[layer]
        if by_token(len(total), len(left), len(spans)):
            weights = self._of_tokens(layer, spans)  # [n, m]
            for k, matrix in enumerate(total):
                matrix.addmm_(left.T, right * weights[:, k, None])
            return
        weights = self.weights[layer][[self.windows[span.window] for span in spans]]  # [P, m]
        flat = total.view(len(total), -1)  # [m, rows x columns]
        for part, block in gradient_blocks(left, right, spans):
            flat[:, part].addmm_(weights.T, block)

    def _of_tokens(self, layer: str, spans: Sequence[Span]) -> Tensor:
        """Each token's document's weights, [n, m]."""
        documents = np.repeat([self.windows[s.window] for s in spans], [s.stop - s.start for s in spans])
        return self.weights[layer][documents]


def _by_document(windows: Sequence[int], spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """(document, its rows) for spans of windows that follow one another."""
    merged: list[tuple[int, Span]] = []
    for span in spans:
        document = windows[span.window]
        if merged and merged[-1][0] == document:
            merged[-1] = document, replace(merged[-1][1], stop=span.stop)
        else:
            merged.append((document, span))
    return iter(merged)


def _products(directions: Tensor, left: Tensor, right: Tensor, spans: Sequence[Span]) -> tuple[Tensor, Tensor]:
    """Squared norms [P] and inner products [P, m] of each span's gradient left^T right, by whichever costs less.

    By Gram matrices |left^T right|^2 is the sum over pairs of tokens of left_s.left_t right_s.right_t.
    """
    import torch

    lengths = [span.stop - span.start for span in spans]
    pairs = sum(length * length for length in lengths) / right.shape[1]  # Gram matrices, in tokens of one product
    if (len(directions) - 1) * len(left) + pairs <= SPAN_TOKENS * len(spans):
        norms = [
            ((rows @ rows.T) * (columns @ columns.T)).sum()
            for rows, columns in zip(left.split(lengths), right.split(lengths), strict=True)
        ]
        return torch.stack(norms), inner_products(directions, left, right, spans)
    squared, dots = left.new_zeros(len(spans)), left.new_zeros(len(spans), len(directions))
    flat = directions.flatten(1)  # [m, rows x columns]
    for part, block in gradient_blocks(left, right, spans):
        squared += torch.linalg.vecdot(block, block)
        dots.addmm_(block, flat[:, part].T)
    return squared, dots
