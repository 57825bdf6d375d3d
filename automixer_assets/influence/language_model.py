"""A causal language model seen as body, embedding matrix and output matrix, frozen for gradient work.

What belongs here: reaching those parts in any Hugging Face causal LM, and refusing models whose parts do not compose
to the model's own logits. What does not: gradients (see `gradients.py`), other linear layers (`linear_layers.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import Batch, Document, Window, build_batch, windows_of
from automixer_assets.influence.linear_layers import chosen_linears, find_linears, last_block_prefix
from automixer_assets.influence.packed_attention import (
    UnknownAttention,
    can_pack,
    has_varlen,
    packed_arguments,
    packing,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

EMBEDDING = "embedding"
HEAD = "head"
LAYERS = (EMBEDDING, HEAD)
HALF_TYPES = ("bfloat16", "float16")


Attention = Literal["padded", "windows", "varlen"]
"""How the body attends: over rows padded on the right by its own attention, or over one packed row, either window by
window or by torch's variable-length kernel."""


@dataclass(frozen=True)
class Backend:
    """How the body runs; the output layer and the losses never leave float32 (float64 for a float64 model)."""

    compile: bool = False  # torch.compile of the body, for any shape
    dtype: str | None = None  # "bfloat16" or "float16": matrix products of the body in it, weights untouched (autocast)
    packed: bool | None = None  # windows in one row without padding; None: wherever the model can, False: never

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in HALF_TYPES:
            raise AutomixerError(
                f"dtype must be one of {', '.join(HALF_TYPES)}, or None for the model's own, not {self.dtype!r}"
            )


@dataclass(frozen=True)
class LanguageModel:
    """logits = body(embedding[ids]) @ head.T + bias. Half-precision models get a float32 copy of the head."""

    body: Any  # called with inputs_embeds [B, T, d], returns last_hidden_state [B, T, d]
    embedding: Tensor  # [V, d], the model's own dtype
    head: Tensor  # [V, d], compute dtype
    bias: Tensor | None  # [V], compute dtype; enters the logits, but is no layer of its own
    tied: bool
    padding_id: int | None  # its embedding is never trained: torch gives that row no gradient
    context: int | None
    linears: Mapping[str, Any]  # module name -> linear module of the body
    last_block: str | None  # prefix of the last block's module names
    backend: Backend
    attention: Attention = "padded"

    @property
    def packed(self) -> bool:
        """Whether batches are one row without padding."""
        return self.attention != "padded"

    @property
    def compute_dtype(self) -> torch.dtype:
        return self.head.dtype

    @property
    def device(self) -> torch.device:
        return self.head.device

    @property
    def half(self) -> str | None:
        """The half-precision type that the body runs in, if it does."""
        own = str(self.embedding.dtype).removeprefix("torch.")
        return self.backend.dtype or (own if own in HALF_TYPES else None)

    @property
    def vocabulary(self) -> int:
        """Ids that can be embedded and predicted; the two matrices may differ in rows."""
        return min(self.embedding.shape[0], self.head.shape[0])

    @property
    def vocabulary_limit(self) -> str:
        """Which matrix ends the vocabulary, in words."""
        inputs, outputs = self.embedding.shape[0], self.head.shape[0]
        if inputs == outputs:
            return "model's vocabulary"
        return "model's output matrix" if outputs < inputs else "model's embedding matrix"

    def batch(self, windows: list[Window], documents: Sequence[Document]) -> Batch:
        """Windows as tensors for this model: packed or padded, on its device, weights in its compute dtype."""
        return build_batch(windows, documents, packed=self.packed, dtype=self.compute_dtype, device=self.device)

    def embed(self, batch: Batch) -> Tensor:
        """Input embeddings [B, T, d]."""
        return self.embedding[batch.inputs]

    def hidden(self, embeds: Tensor, batch: Batch, **others: Any) -> Tensor:
        """Final hidden states [B, T, d]. Causal attention, so right padding needs no mask."""
        packed = dict(others)
        if batch.positions is not None:
            packed |= packed_arguments(batch.lengths, batch.positions, self.attention == "varlen")
        with self._precision():
            return self.body(inputs_embeds=embeds, attention_mask=None, use_cache=False, **packed).last_hidden_state

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """Logits [n, V] of hidden states [n, d], in the compute dtype; written to `out` where given."""
        import torch

        logits = torch.mm(hidden.to(self.compute_dtype), self.head.T, out=out)
        return logits if self.bias is None else logits.add_(self.bias)

    def layers(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The distinct matrices among `wanted`: tied weights are one matrix, called "embedding", counted once.

        Raises AutomixerError when nothing is wanted, a name is unknown, or the body is compiled and cannot be recorded.
        """
        if not wanted:
            raise AutomixerError(f"layers must be chosen from {', '.join(LAYERS)}, not nothing")
        linears = chosen_linears([name for name in wanted if name not in LAYERS], self.linears, self.last_block)
        if linears and self.backend.compile:
            raise AutomixerError(
                f"layer '{linears[0]}' cannot be recorded in a compiled body: pass compile=False, or take "
                "layers=('embedding', 'head')"
            )
        matrices = tuple(layer for layer in LAYERS if layer in wanted)
        return ((EMBEDDING,) if self.tied and matrices else matrices) + linears

    def shape(self, layer: str) -> tuple[int, int]:
        """(rows, columns) of a layer's matrix; (V, d) for the embedding and the head."""
        if layer not in LAYERS:
            return tuple(self.linears[layer].weight.shape)
        rows, columns = (self.embedding if layer == EMBEDDING else self.head).shape
        return rows, columns

    def max_length(self, wanted: int | None, longest: int) -> int:
        """Tokens per window: `wanted`, else the model's context, else the longest document."""
        if wanted is not None and self.context is not None and wanted > self.context:
            raise AutomixerError(f"max_length {wanted} exceeds the model's context of {self.context} tokens: lower it")
        length = wanted if wanted is not None else (self.context or max(longest, 2))
        if length < 2:
            raise AutomixerError(f"max_length must be at least 2 to predict anything, not {length}: raise it")
        return length

    def remedy(self) -> str:
        """What to do about numbers that are not finite."""
        if self.half == "float16":
            return "float16 ends at 65504, so run the model in bfloat16 or float32"
        return "check the checkpoint"

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        if self.backend.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=getattr(torch, self.backend.dtype))


@contextmanager
def opened(model: PreTrainedModel, backend: Backend | None = None) -> Iterator[LanguageModel]:
    """The model's parts, with every parameter frozen and dropout off; both are restored afterwards.

    Raises AutomixerError when the parts do not reproduce the model's own logits.
    """
    was_training = model.training
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        parts = replace(_parts(model), backend=backend or Backend())
        _check_composition(model, parts)
        attention = _attention(model, parts)
        with packing(model) if attention != "padded" else contextlib.nullcontext():
            yield _compiled(replace(parts, attention=attention))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        model.train(was_training)


def _compiled(parts: LanguageModel) -> LanguageModel:
    import torch

    return replace(parts, body=torch.compile(parts.body, dynamic=True)) if parts.backend.compile else parts


def _attention(model: PreTrainedModel, parts: LanguageModel) -> Attention:
    """Packed where the model can, which three short windows show: alone and in one row they must come out alike."""
    varlen = parts.half is not None and has_varlen(parts.device)
    if parts.backend.packed is False or not can_pack(model) or (parts.backend.compile and not varlen):
        return "padded"  # a compiled body would be traced anew for every batch of window lengths
    packed = replace(parts, attention="varlen" if varlen else "windows")
    return packed.attention if _packs(model, parts, packed) else "padded"


def _packs(model: PreTrainedModel, parts: LanguageModel, packed: LanguageModel) -> bool:
    """Every layer attends by `packed_attention.attend`, and three windows come out as they do alone."""
    import numpy as np
    import torch

    sizes = [min(size, parts.vocabulary, parts.context or size) for size in (6, 4, 4)]
    texts = [Document(np.arange(size)[:: 1 - 2 * (i % 2)], None, 1.0) for i, size in enumerate(sizes)]
    windows = [windows_of(i, size, size)[0] for i, size in enumerate(sizes)]
    attended: list[Any] = []
    with torch.no_grad():
        alone = [parts.batch([window], texts) for window in windows]
        expected = torch.cat([parts.hidden(parts.embed(batch), batch)[0] for batch in alone]).float()  # [N, d]
        row = packed.batch(windows, texts)
        try:
            with packing(model):
                found = packed.hidden(packed.embed(row), row, attended=attended)[0].float()  # [N, d]
        except (TypeError, UnknownAttention):
            return False
    every = len(attended) == getattr(model.config, "num_hidden_layers", None)
    return every and torch.allclose(found, expected, rtol=0.0, atol=_tolerance(parts, expected), equal_nan=True)


def _parts(model: PreTrainedModel) -> LanguageModel:
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise AutomixerError(
            f"{type(model).__name__} has no output embedding, so it predicts no token: load the checkpoint with "
            "AutoModelForCausalLM"
        )
    if not isinstance(embedding, torch.nn.Embedding) or not isinstance(head, torch.nn.Linear):
        raise AutomixerError(
            f"{type(model).__name__} has no plain embedding and output matrix: use a Hugging Face causal language model"
        )
    half = head.weight.dtype in (torch.bfloat16, torch.float16)
    dtype = torch.float32 if half else head.weight.dtype
    return LanguageModel(
        body=model.base_model,
        embedding=embedding.weight,
        head=head.weight.to(dtype),
        bias=None if head.bias is None else head.bias.to(dtype),
        tied=head.weight is embedding.weight,
        padding_id=embedding.padding_idx,
        context=getattr(model.config, "max_position_embeddings", None),
        linears=find_linears(model),
        last_block=last_block_prefix(model),
        backend=Backend(),
    )


def _check_composition(model: PreTrainedModel, parts: LanguageModel) -> None:
    """Scaled embeddings, capped logits and the like would give silently wrong gradients, so compare on a few tokens."""
    import numpy as np
    import torch

    size = min(9, parts.vocabulary, parts.context or 9)
    batch = parts.batch([windows_of(0, size, size)[0]], [Document(np.arange(size), None, 1.0)])  # T = size - 1
    plain = replace(parts, backend=Backend())
    with torch.no_grad():
        expected = model(input_ids=batch.inputs, use_cache=False).logits[0].to(parts.compute_dtype)  # [T, V]
        composed = parts.logits(plain.hidden(plain.embed(batch), batch)[0])  # [T, V]
    if not torch.allclose(composed, expected, rtol=0.0, atol=_tolerance(plain, expected), equal_nan=True):
        raise AutomixerError(
            f"{type(model).__name__} transforms its embeddings or logits outside its two matrices, "
            "so their gradients cannot be formed from them: use an architecture such as Llama, GPT-2 or GPT-NeoX"
        )


def _tolerance(parts: LanguageModel, expected: Tensor) -> float:
    largest = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return (5e-2 if parts.half else 1e-4) * max(1.0, largest)
