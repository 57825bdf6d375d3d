"""Constants of a machine that does not exist: round numbers, so that a plan can be worked out by hand."""

from __future__ import annotations

from typing import get_args

from automixer_assets.planning.constants import (
    Constants,
    Machine,
    PassKind,
    PassSpeed,
    WorkKind,
    WorkSpeed,
)
from automixer_assets.planning.flops import Shape
from automixer_assets.settings import Architecture

OPERATIONS, AMOUNT = 1e9, 1e6


def speed_at(shape: Shape, kind: PassKind = "scoring", flops_per_second: float = OPERATIONS) -> PassSpeed:
    return PassSpeed.at(shape, kind, flops_per_second)


def round_constants(**changes: object) -> Constants:
    """10^9 operations and 10^6 bytes or rows a second, nothing else."""
    shape = Shape.of(Architecture.model_validate("demo"), 300)
    constants = Constants(
        made="2026-01-01T00:00:00+00:00",
        machine=Machine(device="cpu", processor="none", cores=2, threads=1, memory_bytes=2**34),
        packages={"torch": "0"},
        passes=[speed_at(shape, kind) for kind in get_args(PassKind)],
        work=[WorkSpeed(kind=kind, per_second=AMOUNT) for kind in get_args(WorkKind)],
    )
    return constants.model_copy(update=changes)
