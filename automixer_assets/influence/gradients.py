"""Gradients of the chosen matrices, one batch at a time, without a parameter gradient from autograd.

One forward, the output layer by hand in chunks of tokens, one backward through the activations. What is done with
the pieces is a sink's business: scoring contracts them (`score.py`), fitting adds them up (`fit.py`).

With delta_t = softmax(logits_t) - onehot(target_t), w_t the token's weight and h_t its hidden state, a document's
gradient is  head: sum_t w_t delta_t h_t^T;  embedding: sum_t onehot(x_t) g_t^T  with g_t = d loss / d embedding of
x_t, which one backward from  dL/dh_t = w_t delta_t W  gives for all tokens (paper, section 4). Tied weights are one
matrix whose gradient is the sum of both. The same backward serves any linear layer of the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import Batch, Span, spans_in_chunks
from automixer_assets.influence.language_model import LanguageModel
from automixer_assets.influence.linear_layers import Tap, recorded
from automixer_assets.influence.memory import buffer_elements

if TYPE_CHECKING:
    from torch import Tensor

CHUNK_ELEMENTS, CHUNK_ROWS = 2**22, 256
"""Logits held at a time (tokens x vocabulary): 16 MiB in float32, but never fewer tokens than make a matrix product."""


class GradientSink(Protocol):
    """Takes the pieces of a batch's gradients as they are formed."""

    def wants_embedding(self) -> bool:
        """False spares the backward pass, if no linear layer is wanted either."""
        ...

    def wanted_linears(self) -> Sequence[str]:
        """Linear layers of the body whose pieces `linear` takes."""
        ...

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        """Tokens of one chunk: delta [n, V], weighted hidden states [n, d]; spans count from the chunk's first row."""
        ...

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        """Gradients [B, T, d] at the input embeddings; zero at padding."""
        ...

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        """One linear layer: window b's gradient is left[b]^T right[b], of [B, T, rows] and [B, T, columns]."""
        ...


def differentiate(model: LanguageModel, batch: Batch, sink: GradientSink, draws: Tensor | None = None) -> Tensor:
    """Run one batch and hand its gradients to `sink`.

    Args:
        draws: uniform numbers [N]; with them every target is drawn from the model's own softmax instead of the text.

    Returns:
        Cross-entropy of every predicted token, [N], unweighted, in the compute dtype.
    """
    import torch

    names = sink.wanted_linears()
    backward = sink.wants_embedding() or bool(names)
    embeds = model.embed(batch.inputs).detach().requires_grad_(sink.wants_embedding())  # [B, T, d]
    shape = batch.inputs.shape[0], batch.inputs.shape[1]
    with torch.set_grad_enabled(backward), recorded(model.linears, names, shape) as taps:
        hidden = model.hidden(embeds)  # [B, T, d]
    _refuse_idle(names, taps)
    if len(batch.rows) == 0:  # every counted token of a masked item lies in another window
        return torch.zeros(0, dtype=model.compute_dtype, device=model.device)
    flat = hidden.detach().flatten(0, 1)[batch.rows].to(model.compute_dtype)  # [N, d]
    nll, pull = _output_layer(model, batch, flat, sink, draws)
    if backward:
        _through_body(model, batch, sink, embeds, hidden, pull, taps)
    return nll


def _through_body(
    model: LanguageModel,
    batch: Batch,
    sink: GradientSink,
    embeds: Tensor,
    hidden: Tensor,
    pull: Tensor,
    taps: list[Tap],
) -> None:
    """One backward from dL/dh [N, d] to the input embeddings and to the outputs of the recorded layers."""
    import torch

    scale = _scale(model, pull)
    at_hidden = torch.zeros_like(hidden)  # [B, T, d]
    at_hidden.view(-1, hidden.shape[-1])[batch.rows] = (pull if scale == 1 else pull * scale).to(hidden.dtype)
    sources = ([embeds] if sink.wants_embedding() else []) + [tap.output for tap in taps]
    found = [gradient.to(model.compute_dtype) for gradient in torch.autograd.grad(hidden, sources, at_hidden)]
    if scale != 1:
        found = [gradient / scale for gradient in found]
    if sink.wants_embedding():
        gradients = found.pop(0)  # [B, T, d]
        if model.padding_id is not None:
            gradients = gradients.masked_fill((batch.inputs == model.padding_id)[..., None], 0.0)
        sink.embedding(batch, gradients)
    for tap, delta in zip(taps, found, strict=True):  # [B, T, out]
        sink.linear(tap.layer, batch, *tap.factors(delta, model.compute_dtype))


def _output_layer(
    model: LanguageModel, batch: Batch, hidden: Tensor, sink: GradientSink, draws: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy [N] and dL/dh [N, d] of hidden states [N, d]; dL/dW goes to the sink chunk by chunk."""
    import torch

    nll, pull = hidden.new_empty(len(hidden)), torch.empty_like(hidden)  # [N], [N, d]
    weights = batch.weights[:, None]  # [N, 1]
    weighted = hidden * weights  # [N, d]
    backward = sink.wants_embedding() or bool(sink.wanted_linears())
    max_rows = max(CHUNK_ROWS, buffer_elements(model.device, CHUNK_ELEMENTS) // model.head.shape[0])
    with torch.no_grad():
        for spans in spans_in_chunks(batch.row_counts, max_rows):
            chunk = slice(spans[0].start, spans[-1].stop)
            log_p = torch.log_softmax(model.logits(hidden[chunk]), dim=-1)  # [n, V]
            targets = batch.targets[chunk, None] if draws is None else drawn_labels(log_p, draws[chunk])  # [n, 1]
            nll[chunk] = -log_p.gather(1, targets)[:, 0]
            delta = log_p.exp_()
            delta.scatter_add_(1, targets, delta.new_full(targets.shape, -1.0))
            if backward:
                pull[chunk] = (delta @ model.head) * weights[chunk]
            first = chunk.start
            sink.head(delta, weighted[chunk], [Span(s.window, s.start - first, s.stop - first) for s in spans])
    return nll, pull


def drawn_labels(log_p: Tensor, draws: Tensor) -> Tensor:
    """Labels [n, 1] from log-probabilities [n, V]: the first id whose cumulative probability exceeds the draw [n]."""
    import torch

    cumulative = log_p.exp().cumsum(-1)  # [n, V]
    draws = draws.clamp(max=1 - 2 * torch.finfo(draws.dtype).eps)  # one that rounds up to 1 would exceed every id
    labels = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)  # [n, 1]
    return labels.clamp_(max=log_p.shape[-1] - 1)  # NaN: the loss will say so


def _scale(model: LanguageModel, pull: Tensor) -> float:
    """A power of two that keeps float16 gradients from vanishing on their way back; 1 for every other type."""
    if model.half != "float16":
        return 1.0
    largest = float(pull.abs().max())
    return 2.0 ** math.floor(-math.log2(largest)) if 0.0 < largest < 1.0 else 1.0


def _refuse_idle(names: Sequence[str], taps: list[Tap]) -> None:
    idle = sorted(set(names) - {tap.layer for tap in taps})
    if idle:
        raise AutomixerError(f"layer '{idle[0]}' takes no part in the forward pass: leave it out of layers")
