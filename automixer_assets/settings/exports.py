"""Settings of a mixture's exports."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from automixer_assets.settings.base import Section

ExportFormat = Literal[
    "megatron",
    "hf",
    "olmo-core",
    "mosaicml",
    "litdata",
    "grain",
    "torchtitan",
    "levanter",
    "nanotron",
]


class Export(Section):
    """A trainer's files to write with every version of the mixture. Written as the format's name, or as a mapping."""

    format: ExportFormat
    tokenizer: str | None = Field(
        default=None, description="folder of the trainer's own, where it is not the mixture's"
    )
    location: str | None = Field(default=None, description="where the trainer will find it; default: in the lake")
    sequence_length: int = Field(default=2048, gt=1, description="tokens per training sequence")
    batch_size: int = Field(default=256, gt=0, description="sequences per training step")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"format": given} if isinstance(given, str) else given
