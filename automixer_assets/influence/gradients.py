"""Gradients of the embedding and output matrices, one batch at a time, without a parameter gradient from autograd.

One forward, the output layer by hand in chunks of tokens, one backward through the activations. What is done with
the pieces is a sink's business: scoring contracts them (`score.py`), fitting adds them up (`curvature.py`).

With delta_t = softmax(logits_t) - onehot(target_t), w_t the token's weight and h_t its hidden state, a document's
gradient is  head: sum_t w_t delta_t h_t^T;  embedding: sum_t onehot(x_t) g_t^T  with g_t = d loss / d embedding of
x_t, which one backward from  dL/dh_t = w_t delta_t W  gives for all tokens (paper, section 4). Tied weights are one
matrix whose gradient is the sum of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from automixer_assets.influence.batches import Batch, Span, spans_in_chunks
from automixer_assets.influence.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_ELEMENTS, CHUNK_ROWS = 2**22, 256
"""Logits held at a time (tokens x vocabulary): 16 MiB in float32, but never fewer tokens than make a matrix product."""


class GradientSink(Protocol):
    """Takes the pieces of a batch's gradients as they are formed."""

    def wants_embedding(self) -> bool:
        """False spares the backward pass."""
        ...

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        """Tokens of one chunk: delta [n, V], weighted hidden states [n, d]; spans count from the chunk's first row."""
        ...

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        """Gradients [B, T, d] at the input embeddings; zero at padding."""
        ...


def differentiate(model: LanguageModel, batch: Batch, sink: GradientSink) -> Tensor:
    """Run one batch and hand its gradients to `sink`.

    Returns:
        Cross-entropy of every predicted token, [N], unweighted, in the compute dtype.
    """
    import torch

    backward = sink.wants_embedding()
    embeds = model.embed(batch.inputs).detach().requires_grad_(backward)  # [B, T, d]
    with torch.set_grad_enabled(backward):
        hidden = model.hidden(embeds)  # [B, T, d]
    if len(batch.rows) == 0:  # every counted token of a masked item lies in another window
        return torch.zeros(0, dtype=model.compute_dtype, device=model.device)
    flat = hidden.detach().flatten(0, 1)[batch.rows].to(model.compute_dtype)  # [N, d]
    nll, pull = _output_layer(model, batch, flat, sink)
    if backward:
        at_hidden = torch.zeros_like(hidden)  # [B, T, d]
        at_hidden.view(-1, hidden.shape[-1])[batch.rows] = pull.to(hidden.dtype)
        (gradients,) = torch.autograd.grad(hidden, embeds, at_hidden)  # [B, T, d]
        if model.padding_id is not None:
            gradients = gradients.masked_fill((batch.inputs == model.padding_id)[..., None], 0.0)
        sink.embedding(batch, gradients.to(model.compute_dtype))
    return nll


def _output_layer(model: LanguageModel, batch: Batch, hidden: Tensor, sink: GradientSink) -> tuple[Tensor, Tensor]:
    """Cross-entropy [N] and dL/dh [N, d] of hidden states [N, d]; dL/dW goes to the sink chunk by chunk."""
    import torch

    nll, pull = hidden.new_empty(len(hidden)), torch.empty_like(hidden)  # [N], [N, d]
    weights = batch.weights[:, None]  # [N, 1]
    weighted = hidden * weights  # [N, d]
    backward = sink.wants_embedding()
    max_rows = max(CHUNK_ROWS, CHUNK_ELEMENTS // model.head.shape[0])
    with torch.no_grad():
        for spans in spans_in_chunks(batch.row_counts, max_rows):
            chunk = slice(spans[0].start, spans[-1].stop)
            targets = batch.targets[chunk, None]  # [n, 1]
            log_p = torch.log_softmax(model.logits(hidden[chunk]), dim=-1)  # [n, V]
            nll[chunk] = -log_p.gather(1, targets)[:, 0]
            delta = log_p.exp_()
            delta.scatter_add_(1, targets, delta.new_full(targets.shape, -1.0))
            if backward:
                pull[chunk] = (delta @ model.head) * weights[chunk]
            first = chunk.start
            sink.head(delta, weighted[chunk], [Span(s.window, s.start - first, s.stop - first) for s in spans])
    return nll, pull
