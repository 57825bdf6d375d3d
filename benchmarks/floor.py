"""The floor of any gradient method: one forward and one backward through the activations, written out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from automixer_assets.influence.batches import Document, Window
from automixer_assets.influence.language_model import LanguageModel

ROWS = 1024
"""Tokens whose logits are held at a time."""


def run_floor(
    model: LanguageModel, plan: Sequence[list[Window]], documents: Sequence[Document], extra: torch.Tensor | None = None
) -> None:
    """Loss, dL/dh and dL/d embeddings of every token of the batches, and no weight's gradient.

    The output layer goes by chunks in one buffer, in place, as tightly as torch allows. With `extra` [V, d] one more
    product of the head's size per token: what a gradient of the head cannot be contracted without.
    """
    for windows in plan:
        batch = model.batch(windows, documents)
        embeds = model.embed(batch).requires_grad_(True)  # [1, N, d]
        hidden = model.hidden(embeds, batch)  # [1, N, d]
        flat = hidden.detach()[0]
        pull = torch.empty_like(flat)  # dL/dh
        buffer = flat.new_empty(min(ROWS, len(flat)), len(model.head))
        for start in range(0, len(flat), ROWS):
            chunk = slice(start, min(start + ROWS, len(flat)))
            targets = batch.targets[chunk, None]
            logits = torch.mm(flat[chunk], model.head.T, out=buffer[: chunk.stop - start])  # [n, V]
            below = logits.amax(-1, keepdim=True) - logits.gather(1, targets)
            delta = torch.softmax(logits, -1, out=logits)
            below.sub_(delta.amax(-1, keepdim=True).log())  # the loss of every token
            delta.scatter_add_(1, targets, delta.new_full(targets.shape, -1.0))
            torch.mm(delta, model.head, out=pull[chunk]).mul_(batch.weights[chunk, None])
            if extra is not None:
                (torch.mm(delta, extra) * flat[chunk]).sum(1)
        torch.autograd.grad(hidden, embeds, pull[None])
