"""Accelerators that are not at hand: their makers' figures, times a utilisation that the reader must believe.

Peaks are those of the data sheets, dense, without sparsity: NVIDIA A100 (2021), H100 SXM (2023), H200 (2024). A pass
runs at the peak of the type that this project runs it in: training, and the body where documents are scored, in the
settings' precision, everything else in float32, which these accelerators multiply outside their tensor cores as long as
TF32 is off, and it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from automixer_assets.errors import ConfigurationError
from automixer_assets.planning.constants import Constants, PassKind, PassSpeed
from automixer_assets.planning.flops import Shape


@dataclass(frozen=True)
class Accelerator:
    """Peak operations per second by type, and memory."""

    name: str
    bfloat16: float
    float32: float
    memory_bytes: int


ACCELERATORS = {
    "a100": Accelerator("NVIDIA A100 SXM 80GB", 312e12, 19.5e12, 80 * 10**9),
    "h100": Accelerator("NVIDIA H100 SXM 80GB", 989.4e12, 67e12, 80 * 10**9),
    "h200": Accelerator("NVIDIA H200 SXM 141GB", 989.4e12, 67e12, 141 * 10**9),
}


def on_accelerator(
    constants: Constants, name: str, utilisation: float, shapes: dict[str, tuple[Shape, str]], *, scoring: str
) -> Constants:
    """The same constants with passes as fast as an accelerator's data sheet says, times `utilisation`.

    Args:
        shapes: shape and training precision of every model that is planned.
        scoring: the type that the body runs in where documents are scored (the settings' `scoring.precision`).

    Raises:
        ConfigurationError: an accelerator that is not listed, or a utilisation outside (0, 1].
    """
    chosen = ACCELERATORS.get(name.lower())
    if chosen is None:
        raise ConfigurationError(f"there is no accelerator {name!r}; there are {', '.join(ACCELERATORS)}")
    if not 0 < utilisation <= 1:
        raise ConfigurationError(f"--utilisation must lie above 0 and at most at 1, not {utilisation}")
    assumed = f"assumed: a share of the data sheet's peak of {name}"
    passes = [
        PassSpeed.at(shape, kind, utilisation * _peak(chosen, kind, shape, precision, scoring), assumed)
        for shape, precision in shapes.values()
        for kind in get_args(PassKind)
    ]
    machine = constants.machine.model_copy(update={"device": chosen.name, "device_memory_bytes": chosen.memory_bytes})
    return constants.model_copy(update={"passes": passes, "machine": machine})


def _peak(chosen: Accelerator, kind: PassKind, shape: Shape, precision: str, scoring: str) -> float:
    """Operations per second at most; of influence the body's in one type and the output layer's in float32."""
    if kind == "training":
        return getattr(chosen, precision)
    if kind in ("evaluation", "fitting"):
        return chosen.float32
    body, head = 4 * shape.body_weights, 6 * shape.head_weights  # forward, backward; logits, pull-back, gradients
    return (body + head) / (body / getattr(chosen, scoring) + head / chosen.float32)
