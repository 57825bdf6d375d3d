"""Settings of the simulation run: a proxy's shape, its training, the checkpoints it keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from automixer_assets.settings.base import Key, Section, distinct
from automixer_assets.settings.imported import ImportedProxy


class Architecture(Section):
    """A Llama-3-style decoder: grouped-query attention, SwiGLU, RMSNorm, rotary positions."""

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    tie_word_embeddings: bool = False
    rope_theta: float = Field(default=500_000.0, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads, and that of num_key_value_heads")
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: rotary positions turn pairs")
        return self


class Training(Section):
    """One training run: packed sequences, AdamW, warm-up, schedule. Tokens = steps x batch_size x sequence_length."""

    steps: int = Field(gt=0)
    sequence_length: int = Field(gt=1)
    batch_size: int = Field(gt=0, description="sequences per step")
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    minimum_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    resume_every: int = Field(default=200, gt=0, description="steps between resume checkpoints")

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Training:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be below steps={self.steps}")
        return self

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_size * self.sequence_length


class Proxy(Section):
    """One simulation run (paper, section 3): its data, shape, schedule and kept checkpoints."""

    snapshots: list[Key] = Field(min_length=1)
    architecture: Architecture
    training: Training
    checkpoints: int = Field(default=20, gt=0, description="evenly spaced; the last is the end of the run")
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _not_both(cls, given: Any) -> Any:
        if isinstance(given, dict) and "checkpoints_from" in given:
            own = ", ".join(f"`{key}`" for key in given if key != "checkpoints_from")
            raise ValueError(
                f"a proxy is either trained or imported: remove {own}, which an imported proxy brings itself, "
                "or remove `checkpoints_from`"
            )
        return given

    @model_validator(mode="after")
    def _enough_steps(self) -> Proxy:
        if self.checkpoints > self.training.steps:
            raise ValueError(f"checkpoints={self.checkpoints} exceeds training.steps={self.training.steps}")
        distinct(self.snapshots, "snapshots")
        return self

    @property
    def checkpoint_steps(self) -> list[int]:
        """Evenly spaced steps, the last of them `training.steps`."""
        return sorted({round(self.training.steps * (i + 1) / self.checkpoints) for i in range(self.checkpoints)})


TRAINED, IMPORTED = "trained proxy", "imported proxy"


def _kind(given: Any) -> str:
    """By the keys that are given; with keys of both, `Proxy` says so."""
    if isinstance(given, dict):
        return IMPORTED if set(given) == {"checkpoints_from"} else TRAINED
    return IMPORTED if isinstance(given, ImportedProxy) else TRAINED


AnyProxy = Annotated[
    Annotated[Proxy, Tag(TRAINED)] | Annotated[ImportedProxy, Tag(IMPORTED)],
    Discriminator(_kind),
]
