"""How much is held at a time: fixed on a CPU, a share of the device's memory on a GPU.

Sizes decide which tokens meet in one batch or chunk, never what is computed: scores agree across them to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import psutil

from automixer_assets.errors import AutomixerError

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


def require_memory(
    device: torch.device, n_directions: int, shapes: Sequence[tuple[int, int]], dtype: torch.dtype
) -> None:
    """Raise AutomixerError, before any work, where v and r of so many directions of such matrices cannot be held."""
    needed = 2 * n_directions * sum(rows * columns for rows, columns in shapes) * dtype.itemsize
    free = _free_memory(device)
    if needed > free:
        raise AutomixerError(
            f"{n_directions} directions need {needed / 2**30:.1f} GiB for v and r, but {device.type} has "
            f"{free / 2**30:.1f} GiB free: pool tasks (pool={{name: {{task: weight}}}}), or fit some of them at a time"
        )


def _free_memory(device: torch.device) -> int:
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _gpu_memory(device: torch.device) -> int:
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
