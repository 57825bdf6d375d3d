"""Settings of the passes that score documents, the same for every proxy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from automixer_assets.settings.base import Section


class Scoring(Section):
    """How a pass over a snapshot runs (paper, section 4, step 4)."""

    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of the matrix products of the model's body; output layer, losses and queries stay float32",
    )

    @property
    def half(self) -> Literal["bfloat16"] | None:
        """The half-precision type that documents are scored in, or None: the weights' own."""
        return "bfloat16" if self.precision == "bfloat16" else None
