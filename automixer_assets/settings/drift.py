"""Settings of what counts as drift: how far a new snapshot or version of a mixture may differ from the last."""

from __future__ import annotations

from pydantic import Field

from automixer_assets.settings.base import Section


class Drift(Section):
    """Bounds beyond which a check warns. Nothing is refused, and nothing is made again when a bound changes."""

    previous: int = Field(default=4, gt=0, description="snapshots, in name order, that a new one is compared with")
    population_stability: float = Field(default=0.25, gt=0, description="population stability index of a distribution")
    quantile_shift: float = Field(default=0.5, gt=0, description="of the quartiles, in interquartile ranges before")
    threshold_shift: float = Field(
        default=0.05, gt=0, le=1, description="share of the candidates between a group's old and new threshold"
    )
    weight_shift: float = Field(default=0.05, gt=0, le=1, description="difference of a group's shares of tokens")
