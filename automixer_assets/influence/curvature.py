"""Curvatures: how a validation gradient v becomes the direction r that documents are scored against.

What belongs here: one function per curvature, from (v, reference sample) to r, and the registry `CURVATURES`.
What does not: how gradients and factors are formed (see `reference_products.py`, `kronecker.py`). A new curvature is
one more function in the registry; scoring does not change, for it only ever sees r.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.kronecker import KroneckerFactor, solve
from automixer_assets.influence.language_model import LAYERS

if TYPE_CHECKING:
    from torch import Tensor

    Directions = Mapping[str, Tensor]  # layer -> [m, V, d]

DAMPING = 0.1
"""Damping as a share of the mean curvature: of the mean squared gradient entry for datainf, where it is the paper's
(section 4), of the mean eigenvalue for kfac, where .01 to .1 was measured best."""


class ReferenceGradients(Protocol):
    """The frozen reference documents; `gradients` may be called repeatedly and gives the same each time."""

    @property
    def n_documents(self) -> int:
        """All reference documents, those without a predicted token included."""
        ...

    @property
    def n_tokens(self) -> int:
        """Predicted tokens of all reference documents."""
        ...

    def remedy(self) -> str:
        """What to do about numbers that are not finite."""
        ...

    def products(self, directions: Directions) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Squared norm [n] of every document's gradient, and its inner products [n, m] with the directions, by layer.

        Both float64; zero for a document without a predicted token.
        """
        ...

    def weighted_sum(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Layer -> sum over documents i of weights[i, k] x gradient, [m, V, d]; weights [n, m] by layer."""
        ...

    def factors(self) -> Mapping[str, Sequence[KroneckerFactor]]:
        """Kronecker factors of the embedding and output matrices."""
        ...


@dataclass(frozen=True)
class Curved:
    """Directions r per layer [m, V, d], and the damping per layer where the curvature has one."""

    r: Directions
    damping: Mapping[str, float]


Turn = Callable[["Directions", ReferenceGradients, float], Curved]


@dataclass(frozen=True)
class Curvature:
    """A rule from v to r, and how often it goes over the reference sample (for progress)."""

    turn: Turn
    passes: int


def identity(v: Directions, reference: ReferenceGradients, share: float) -> Curved:
    """r = v: the plain gradient product (TracIn, GradDot). Needs no reference document, knows no damping."""
    return Curved(r=v, damping={})


def datainf(v: Directions, reference: ReferenceGradients, share: float) -> Curved:
    """r_l = mean_i (lambda_l I + g_li g_li^T)^-1 v_l over the reference documents (paper, section 4; DataInf).

    By Sherman-Morrison  r_l = (1/n) sum_i (v_l - c_li g_li) / lambda_l  with  c_li = v_l.g_li / (lambda_l + |g_li|^2)
    and  lambda_l = share / (n d_l) sum_i |g_li|^2,  share 0.1 in the paper,  d_l the number of parameters of the layer
    (the paper writes "layer dimension"). Two passes: lambda needs every norm before the first c.

    Raises:
        AutomixerError: no reference document, or all their gradients vanish.
    """
    n = reference.n_documents
    if n == 0:
        raise AutomixerError(
            "the reference sample is empty, but curvature 'datainf' needs at least 1 document of 2 tokens, "
            "since lambda is a mean over its gradients: give reference documents"
        )
    squared, dots = reference.products(v)  # layer -> [n], [n, m]
    for layer in v:
        _require_finite(squared[layer], reference)
    damping = {layer: _damping(layer, squared[layer], v[layer][0].numel(), share) for layer in v}
    shares = {layer: dots[layer] / (damping[layer] + squared[layer])[:, None] / n for layer in v}  # c / n, [n, m]
    r = reference.weighted_sum(shares)  # mean of c_li g_li, [m, V, d]
    for layer in v:
        r[layer].neg_().add_(v[layer]).div_(damping[layer])
    return Curved(r=r, damping=damping)


def kfac(v: Directions, reference: ReferenceGradients, share: float) -> Curved:
    """r_l = (F_l + damping_l I)^-1 v_l with F_l Kronecker-factored (see `kronecker.py`).

    damping_l = share x mean eigenvalue of F_l. Not in the paper; measured better than DataInf at the same cost of
    scoring. One pass.

    Raises:
        AutomixerError: a layer other than the embedding and the head, or fewer reference tokens than dimensions.
    """
    others = [layer for layer in v if layer not in LAYERS]
    if others:
        raise AutomixerError(
            f"curvature 'kfac' knows the layers {', '.join(LAYERS)} only, not '{others[0]}': "
            "take curvature datainf or identity for it"
        )
    _require_tokens(reference.n_tokens, next(iter(v.values())).shape[2])
    factors = reference.factors()
    damping = {layer: share * sum(factor.mean_eigenvalue() for factor in factors[layer]) for layer in v}
    for layer in v:
        if not 0.0 < damping[layer] < math.inf:
            raise AutomixerError(
                f"the curvature of layer '{layer}' is {damping[layer]} over the reference sample: {reference.remedy()}"
            )
    return Curved(r={layer: solve(factors[layer], damping[layer], v[layer]) for layer in v}, damping=damping)


def _require_tokens(n_tokens: int, width: int) -> None:
    if n_tokens < width:
        raise AutomixerError(
            f"the reference sample has {n_tokens} predicted tokens, but curvature 'kfac' needs at least {width}, "
            f"one per hidden dimension, since fewer leave its [{width}, {width}] factors without full rank: "
            "give more reference documents"
        )


def _require_finite(squared_norms: Tensor, reference: ReferenceGradients) -> None:
    bad = (~squared_norms.isfinite()).nonzero()  # [k, 1]
    if len(bad):
        raise AutomixerError(
            f"reference document {int(bad[0])} has a non-finite gradient: {reference.remedy()}, "
            "or leave the document out"
        )


def _damping(layer: str, squared_norms: Tensor, n_parameters: int, share: float) -> float:
    damping = share * float(squared_norms.mean()) / n_parameters
    if damping == 0.0:
        raise AutomixerError(
            f"the reference gradients of layer '{layer}' all vanish: give reference documents of at least two tokens"
        )
    return damping


CURVATURES: dict[str, Curvature] = {
    "datainf": Curvature(datainf, passes=2),
    "identity": Curvature(identity, passes=0),
    "kfac": Curvature(kfac, passes=1),
}


def curvature_named(name: str) -> Curvature:
    """Look a curvature up; raises AutomixerError naming the known ones."""
    if name not in CURVATURES:
        raise AutomixerError(f"curvature '{name}' is not known: choose from {', '.join(sorted(CURVATURES))}")
    return CURVATURES[name]
