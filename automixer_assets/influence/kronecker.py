"""Kronecker factors of the curvature of the embedding and output matrices, and solving with them.

What belongs here: the factors' moments over the reference sample, and (F + damping I)^-1 v. What does not: which
documents, and how v comes about (see `reference_sample.py`, `curvature.py`).

F is the Fisher matrix of one token's loss, with labels drawn from the model's own softmax (those of the text would
give the empirical Fisher, which is no curvature). Both matrices have one row per vocabulary entry, so F falls into
one [d, d] block per row:
    head:       S_i A    with  A = mean_t h_t h_t^T  and  S_i = mean_t delta_ti^2
    embedding:  f_i S_e  with  f_i the share of input i among the tokens  and  S_e = mean_t g_t g_t^T
    tied:       S_i A + f_i S_e: the gradient is the sum of both parts, and the curvature is taken as the sum of theirs.
                The cross term would tie every row to every other, so it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from automixer_assets.influence.batches import Batch, Span
from automixer_assets.influence.language_model import EMBEDDING, HEAD, LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

SOLVED_ELEMENTS = 2**22
"""Entries of per-row blocks solved at a time with tied weights (rows x d x d): 32 MiB in float64."""


@dataclass(frozen=True)
class KroneckerFactor:
    """A curvature that multiplies row i of a [V, d] matrix by rows[i] x columns."""

    rows: Tensor  # [V] float64, not negative
    columns: Tensor  # [d, d] float64, symmetric, positive semi-definite

    def mean_eigenvalue(self) -> float:
        """Mean of rows[i] x eigenvalue[j] over all i and j."""
        return float(self.rows.mean() * self.columns.diagonal().mean())


def solve(factors: Sequence[KroneckerFactor], damping: float, v: Tensor) -> Tensor:
    """(sum of the factors + damping I)^-1 v for v [m, V, d]; in float64, returned in v's type.

    One factor takes one eigendecomposition. Two share none once damped, so rows that both touch are solved one by one
    (V d^3 / 3 multiplications), and rows the second leaves alone by the first's eigendecomposition.
    """
    import torch

    r = torch.stack([_solve_one(factors[0], damping, matrix.double()) for matrix in v])  # [m, V, d]
    if len(factors) == 2:
        touched = factors[1].rows.nonzero()[:, 0]  # [U]
        chunk = max(1, SOLVED_ELEMENTS // v.shape[2] ** 2)
        for ids in touched.split(chunk):
            r[:, ids] = _solve_rows(factors, damping, v[:, ids].double(), ids)
    return r.to(v.dtype)


def _solve_one(factor: KroneckerFactor, damping: float, v: Tensor) -> Tensor:
    """r = ((v U) / (s a^T + damping)) U^T with U, a the eigenvectors and eigenvalues of the columns; v, r [V, d]."""
    import torch

    values, vectors = torch.linalg.eigh(factor.columns)  # [d], [d, d]
    spectrum = torch.outer(factor.rows, values.clamp(min=0.0)) + damping  # [V, d]
    return (v @ vectors / spectrum) @ vectors.T


def _solve_rows(factors: Sequence[KroneckerFactor], damping: float, v: Tensor, ids: Tensor) -> Tensor:
    """r [m, c, d] of the rows `ids` [c], each by a Cholesky factor of its own block."""
    import torch

    blocks = sum(factor.rows[ids, None, None] * factor.columns for factor in factors)  # [c, d, d]
    assert isinstance(blocks, torch.Tensor)
    blocks.diagonal(dim1=1, dim2=2).add_(damping)
    return torch.cholesky_solve(v.permute(1, 2, 0), torch.linalg.cholesky(blocks)).permute(2, 0, 1)


@dataclass(frozen=True)
class Moments:
    """A gradient sink that adds up the factors of whichever of the two matrices are wanted."""

    model: LanguageModel
    layers: tuple[str, ...]
    hidden: Tensor  # [d, d] sum of h h^T
    delta: Tensor  # [V] sum of delta^2
    inputs: Tensor  # [V] tokens by input id
    gradients: Tensor  # [d, d] sum of g g^T

    @staticmethod
    def empty(model: LanguageModel, layers: tuple[str, ...]) -> Moments:
        import torch

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=model.device)

        (vocabulary, width), rows = model.head.shape, model.embedding.shape[0]
        return Moments(model, layers, zeros(width, width), zeros(vocabulary), zeros(rows), zeros(width, width))

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.layers

    def wanted_linears(self) -> tuple[str, ...]:
        return ()

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        self.hidden.add_(hidden.T @ hidden)
        self.delta.add_(delta.square().sum(0))

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        self.gradients.add_(gradients.T @ gradients)
        ids = batch.ids  # every input of an unmasked text predicts something
        if self.model.padding_id is not None:  # gets no gradient, so it has no curvature
            ids = ids[ids != self.model.padding_id]
        self.inputs.add_(ids.bincount(minlength=len(self.inputs)))

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        raise NotImplementedError("no linear layer is asked for")

    def factors(self, n_tokens: int) -> dict[str, tuple[KroneckerFactor, ...]]:
        """Layer -> its factor; tied weights have the two of their parts, output first."""
        output = KroneckerFactor(self.delta / n_tokens, self.hidden / n_tokens)
        inputs = KroneckerFactor(self.inputs / n_tokens, self.gradients / n_tokens)
        if self.model.tied:
            return {EMBEDDING: (output, inputs)}
        return {layer: (output if layer == HEAD else inputs,) for layer in self.layers}
