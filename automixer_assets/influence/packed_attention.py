"""Causal attention over windows that follow one another in a single row, so that no token is padding.

What belongs here: the attention function that transformers calls through its `AttentionInterface`, and whether a model
can be run with it. What does not: which windows meet in a row (see `batches.py`).

On a GPU in half precision it is torch's variable-length flash attention; elsewhere one call of scaled dot product
attention per run of windows of equal length.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

NAME = "automixer_packed"
UNKNOWN = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Arguments by which a model asks for attention of another kind; None or absent where it does not."""


class UnknownAttention(Exception):
    """A model asks for something that this attention does not do."""


def packed_arguments(lengths: Sequence[int], positions: Tensor, varlen: bool) -> dict[str, Any]:
    """Keyword arguments of the body's forward for one row of windows of `lengths` inputs; positions [1, N]."""
    import torch

    ends = torch.tensor([0, *lengths]).cumsum(0).to(device=positions.device, dtype=torch.int32)  # [W + 1]
    longest = max(lengths)
    return {
        "position_ids": positions,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
        "window_lengths": None if varlen else tuple(lengths),
    }


def has_varlen(device: torch.device) -> bool:
    """Whether torch has variable-length flash attention for half precision on this device (Ampere or later)."""
    import torch

    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before torch 2.10
        return False
    return {"window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


def can_pack(model: PreTrainedModel) -> bool:
    """Whether packing may be tried: full attention in every layer, and positions that can be given.

    What else a model does across tokens (a convolution, a state) shows only when it runs: compare its outputs.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    chunked = getattr(model.config, "attention_chunk_size", None)
    return (
        kinds == {"full_attention"}
        and chunked is None
        and "position_ids" in inspect.signature(model.base_model.forward).parameters
    )


@contextlib.contextmanager
def packing(model: PreTrainedModel) -> Iterator[None]:
    """Run the model's attention through `attend`; the model's own is restored afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    own = model.config._attn_implementation or "eager"
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    window_lengths: tuple[int, ...] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    attended: list[torch.nn.Module] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each window: query [1, H, N, c], key and value [1, G, N, c] with H a multiple of G.

    `attended`, where given, learns that this layer came here.

    Returns:
        [1, N, H, c], and no attention weights.

    Raises:
        UnknownAttention: the model passed a mask, no windows, or one of `UNKNOWN`.
    """
    asked = [name for name in UNKNOWN if others.get(name) is not None]
    if asked or attention_mask is not None or cu_seq_lens_q is None or max_length_q is None:
        raise UnknownAttention(", ".join(asked) or "no windows, or a mask")
    if attended is not None:
        attended.append(module)
    if window_lengths is None:
        return _varlen(query, key, value, cu_seq_lens_q, max_length_q, scaling), None
    return _by_window(query, key, value, window_lengths, scaling), None


def _by_window(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scaling: float | None) -> Tensor:
    import torch

    runs = [(length, len(list(run))) for length, run in groupby(lengths)]  # a batch is sorted: equal lengths meet
    sizes = [length * count for length, count in runs]
    grouped = key.shape[1] != query.shape[1]
    outputs = []  # each [n, H, c]
    # `split` has one gradient of its own; slices would each have a zero-filled one of the whole row.
    parts = zip(runs, *(tensor[0].split(sizes, dim=1) for tensor in (query, key, value)), strict=True)
    for (length, count), *run in parts:
        q, k, v = (part.unflatten(1, (count, length)).transpose(0, 1) for part in run)  # [count, H or G, length, c]
        found = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        outputs.append(found.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None]


def _varlen(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float | None) -> Tensor:
    import torch
    from torch.nn.attention.varlen import varlen_attn

    device = query.device.type
    half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    q, k, v = (tensor[0].transpose(0, 1).to(half) for tensor in (query, key, value))  # [N, H or G, c]
    found: Any = varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=len(k[0]) != len(q[0])
    )
    return found[None].to(query.dtype)
