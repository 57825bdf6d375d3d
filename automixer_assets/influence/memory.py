"""How much is held at a time: fixed on a CPU, a share of the device's memory on a GPU.

Sizes decide which tokens meet in one batch or chunk, never what is computed: scores agree across them to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BATCH_TOKENS = 4096
"""Padded tokens per forward pass on a CPU, and at least on a GPU."""
BYTES_PER_TOKEN = 4 * 2**20
"""GPU memory counted per token of a batch: the activations of a 1.5B-parameter model that a backward pass keeps."""
BUFFER_SHARE = 64
"""One working buffer (a chunk of logits, a block of gradients) takes at most this fraction of a GPU's memory."""


def batch_tokens_on(device: torch.device, wanted: int | None) -> int:
    """Padded tokens per forward pass: `wanted`, else 4096 on a CPU and a token per 4 MiB of memory on a GPU."""
    if wanted is not None:
        return wanted
    return max(BATCH_TOKENS, _gpu_memory(device) // BYTES_PER_TOKEN)


def buffer_elements(device: torch.device, on_cpu: int) -> int:
    """Elements of one working buffer: `on_cpu`, or on a GPU a 64th of its memory in float32 where that is more."""
    return max(on_cpu, _gpu_memory(device) // (4 * BUFFER_SHARE))


def _gpu_memory(device: torch.device) -> int:
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
