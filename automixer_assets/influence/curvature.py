"""Curvatures: how a validation gradient v becomes the direction r that documents are scored against.

What belongs here: one function per curvature, from (v, reference gradients) to r, and the registry `CURVATURES`.
What does not: how gradients are formed (see `gradients.py`, `reference_gradients.py`). A new curvature is one more
function in the registry; scoring does not change, for it only ever sees r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    from torch import Tensor

    Directions = Mapping[str, Tensor]  # layer -> [m, V, d]

DAMPING = 0.1
"""lambda_l as a share of the mean squared gradient entry (paper, section 4)."""


class LayerGradient(Protocol):
    """One document's gradient of one matrix, dense or by rows."""

    def squared_norm(self) -> float: ...

    def dots(self, directions: Tensor) -> Tensor:
        """Inner products [m] with directions [m, V, d]."""
        ...

    def add_to(self, directions: Tensor, weights: Tensor) -> None:
        """Add weights[k] x gradient to directions[k], in place."""
        ...


class ReferenceGradients(Protocol):
    """The frozen reference documents; `gradients` may be called repeatedly and gives the same each time."""

    @property
    def n_documents(self) -> int:
        """All reference documents, those without a predicted token included."""
        ...

    def gradients(self) -> Iterable[tuple[int, Mapping[str, LayerGradient]]]:
        """(index, gradient per layer) of every document with a predicted token."""
        ...


@dataclass(frozen=True)
class Curved:
    """Directions r per layer [m, V, d], and the damping per layer where the curvature has one."""

    r: Directions
    damping: Mapping[str, float]


Curvature = Callable[["Directions", ReferenceGradients], Curved]


def identity(v: Directions, reference: ReferenceGradients) -> Curved:
    """r = v: the plain gradient product (TracIn, GradDot). Needs no reference document."""
    return Curved(r=v, damping={})


def datainf(v: Directions, reference: ReferenceGradients) -> Curved:
    """r_l = mean_i (lambda_l I + g_li g_li^T)^-1 v_l over the reference documents (paper, section 4; DataInf).

    By Sherman-Morrison  r_l = (1/n) sum_i (v_l - c_li g_li) / lambda_l  with  c_li = v_l.g_li / (lambda_l + |g_li|^2)
    and  lambda_l = 0.1 / (n d_l) sum_i |g_li|^2,  d_l the number of parameters of the layer (the paper writes "layer
    dimension"). Two passes: lambda needs every norm before the first c.

    Raises:
        AutomixerError: no reference document, or all their gradients vanish.
    """
    import torch

    n = reference.n_documents
    if n == 0:
        raise AutomixerError(
            "the reference sample is empty, but curvature 'datainf' needs one: give reference documents"
        )
    squared = {layer: torch.zeros(n, dtype=torch.float64) for layer in v}  # [n]
    dots = {layer: torch.zeros(n, len(v[layer]), dtype=torch.float64) for layer in v}  # [n, m]
    for index, gradient in reference.gradients():
        for layer in v:
            squared[layer][index] = _finite(gradient[layer].squared_norm(), index)
            dots[layer][index] = gradient[layer].dots(v[layer]).to("cpu", torch.float64)
    damping = {layer: _damping(layer, squared[layer], v[layer][0].numel()) for layer in v}
    shares = {layer: dots[layer] / (damping[layer] + squared[layer])[:, None] / n for layer in v}  # c / n, [n, m]
    r = {layer: torch.zeros_like(v[layer]) for layer in v}  # mean of c_li g_li first, [m, V, d]
    for index, gradient in reference.gradients():
        for layer in v:
            gradient[layer].add_to(r[layer], shares[layer][index].to(v[layer]))
    for layer in v:
        r[layer].neg_().add_(v[layer]).div_(damping[layer])
    return Curved(r=r, damping=damping)


def _finite(squared_norm: float, index: int) -> float:
    if not math.isfinite(squared_norm):
        raise AutomixerError(
            f"reference document {index} has a non-finite gradient: check the checkpoint, or leave the document out"
        )
    return squared_norm


def _damping(layer: str, squared_norms: Tensor, n_parameters: int) -> float:
    damping = DAMPING * float(squared_norms.mean()) / n_parameters
    if damping == 0.0:
        raise AutomixerError(
            f"the reference gradients of layer '{layer}' all vanish: give reference documents of at least two tokens"
        )
    return damping


CURVATURES: dict[str, Curvature] = {"datainf": datainf, "identity": identity}


def curvature_named(name: str) -> Curvature:
    """Look a curvature up; raises AutomixerError naming the known ones."""
    if name not in CURVATURES:
        raise AutomixerError(f"curvature '{name}' is not known: choose from {', '.join(sorted(CURVATURES))}")
    return CURVATURES[name]
