"""Settings of the simulation run: a proxy's shape, its training, the checkpoints it keeps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from automixer_assets.settings.base import Key, Section, distinct
from automixer_assets.settings.imported import ImportedProxy
from automixer_assets.settings.presets import ARCHITECTURES, TRAININGS, from_preset

Spacing = Literal["even", "early_dense"]
SnapshotOrder = Literal["mixed", "as_listed"]
EARLIEST_SHARE = 0.01
"""Where `early_dense` begins: its first checkpoint lies at this share of the run."""
DECAY_SHARE = 0.1
"""How much of a `warmup_stable_decay` run is decay, unless the settings say."""
EXECUTION_OPTIONS = {"resume_every", "activation_checkpointing", "spike_steps", "spike_deviations"}
"""Options of `Training` that cost time or memory but do not change the weights: they may change during a run."""


class Architecture(Section):
    """A Llama-3-style decoder: grouped-query attention, SwiGLU, RMSNorm, rotary positions.

    Written as the name of a preset (`75M`), as a mapping, or as `{preset: 75M, tie_word_embeddings: false}`.
    """

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    tie_word_embeddings: bool = False
    rope_theta: float = Field(default=500_000.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        return from_preset(given, ARCHITECTURES, "architecture")

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads, and that of num_key_value_heads")
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: rotary positions turn pairs")
        return self

    def parameters(self, vocab_size: int) -> int:
        """Parameters of the model with that vocabulary, tied matrices counted once."""
        hidden = self.hidden_size
        key_value = hidden // self.num_attention_heads * self.num_key_value_heads
        attention = 2 * hidden * hidden + 2 * hidden * key_value  # query and output; key and value
        feed_forward = 3 * hidden * self.intermediate_size  # gate, up, down
        norms = 2 * hidden
        vocabulary = vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return vocabulary + self.num_hidden_layers * (attention + feed_forward + norms) + hidden


class Training(Section):
    """One training run: packed sequences, AdamW, warm-up, schedule. Tokens = steps x batch_size x sequence_length.

    Written as the name of a preset (`paper`), as a mapping, or as `{preset: paper, steps: 20000}`.
    """

    steps: int = Field(gt=0)
    sequence_length: int = Field(gt=1)
    batch_size: int = Field(gt=0, description="sequences per step, over all processes")
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    minimum_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "constant", "warmup_stable_decay"] = "cosine"
    decay_share: float | None = Field(
        default=None, gt=0, le=1, description="warmup_stable_decay: last share of the steps, where it falls; .1"
    )
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of all gradients together")
    precision: Literal["float32", "bfloat16"] = "float32"
    micro_batch_size: int | None = Field(
        default=None, gt=0, description="sequences per forward pass and process; gradients are summed in another order"
    )
    compile: bool = Field(default=False, description="torch.compile; fused kernels round differently")
    activation_checkpointing: bool = Field(default=False, description="recompute activations: less memory, same bits")
    resume_every: int = Field(default=200, gt=0, description="steps between resume checkpoints")
    spike_steps: int | None = Field(default=100, gt=0, description="stop when so many losses in a row are spikes")
    spike_deviations: float = Field(default=10.0, gt=0, description="how far above its median a loss is a spike")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        return from_preset(given, TRAININGS, "training")

    @model_validator(mode="after")
    def _phases_fit(self) -> Training:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be below steps={self.steps}")
        if self.schedule == "warmup_stable_decay":
            if self.warmup_steps + self.decay_steps > self.steps:
                raise ValueError(
                    f"warmup_steps={self.warmup_steps} and the decay over {self.decay_steps} steps do not fit into "
                    f"steps={self.steps}; shorten the warm-up or lower decay_share"
                )
        elif self.decay_share is not None:
            raise ValueError(f"decay_share needs schedule: warmup_stable_decay, not {self.schedule}")
        return self

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_size * self.sequence_length

    @property
    def decay_steps(self) -> int:
        """Steps over which `warmup_stable_decay` falls to the minimum."""
        return max(1, round((self.decay_share or DECAY_SHARE) * self.steps))

    @property
    def identity(self) -> dict[str, Any]:
        """The options that determine the weights that come out."""
        return self.model_dump(mode="json", exclude=EXECUTION_OPTIONS)


class Proxy(Section):
    """One simulation run (paper, section 3): its data, shape, schedule and kept checkpoints."""

    snapshots: list[Key] = Field(min_length=1)
    snapshot_order: SnapshotOrder = Field(
        default="mixed", description="all documents in one seeded order, or one snapshot after the other"
    )
    architecture: Architecture
    training: Training
    checkpoints: int = Field(default=20, gt=0, description="how many are kept; the last is the end of the run")
    checkpoint_spacing: Spacing = Field(default="even", description="early_dense: each a constant factor later")
    seed: int = 0
    trained_in: str | None = Field(
        default=None, description="folder of the same run, finished elsewhere: it is copied, not trained"
    )

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
        """The kept steps, `checkpoints` of them, ascending, the last of them `training.steps`."""
        return checkpoint_steps(self.training.steps, self.checkpoints, self.checkpoint_spacing)

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the run, not how or where it is trained."""
        return self.model_dump(mode="json", exclude={"trained_in": True, "training": EXECUTION_OPTIONS})


def checkpoint_steps(steps: int, count: int, spacing: Spacing) -> list[int]:
    """`count` <= `steps` distinct steps up to `steps`.

    `even`: steps x i / count. `early_dense`: from 1 % of the run to its end, each the same factor after the one
    before; where rounding would make two equal, the later one moves up. Halves round to the even step.
    """
    if spacing == "even":
        return [round(steps * (i + 1) / count) for i in range(count)]
    if count == 1:
        return [steps]
    first = max(1.0, EARLIEST_SHARE * steps)
    kept: list[int] = []
    for i in range(count):
        geometric = round(first * (steps / first) ** (i / (count - 1)))
        above = max(geometric, kept[-1] + 1 if kept else 1)
        kept.append(min(above, steps - (count - 1 - i)))  # leaves room for the others
    return kept


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
