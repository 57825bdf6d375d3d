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

CHUNK_ELEMENTS, CHUNK_ROWS = 2**22, 1024
"""Logits held at a time (tokens x vocabulary): 16 MiB in float32, but never fewer tokens than pay for reading every
direction once."""


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
        """Gradients [N, d] at the embeddings of the N inputs, window after window."""
        ...

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        """One linear layer, left [N, rows], right [N, columns]: a window's gradient is left^T right over its rows."""
        ...


def differentiate(model: LanguageModel, batch: Batch, sink: GradientSink, draws: Tensor | None = None) -> Tensor:
    """Run one batch and hand its gradients to `sink`.

    Args:
        draws: uniform numbers [P]; with them every target is drawn from the model's own softmax instead of the text.

    Returns:
        Cross-entropy of every predicted token, [P], unweighted, in the compute dtype.
    """
    import torch

    names = sink.wanted_linears()
    backward = sink.wants_embedding() or bool(names)
    embeds = model.embed(batch).detach().requires_grad_(sink.wants_embedding())  # [B, T, d]
    shape = batch.inputs.shape[0], batch.inputs.shape[1]
    with torch.set_grad_enabled(backward), recorded(model.linears, names, shape) as taps:
        hidden = model.hidden(embeds, batch)  # [B, T, d]
    _refuse_idle(names, taps)
    if len(batch.targets) == 0:  # every counted token of a masked item lies in another window
        return torch.zeros(0, dtype=model.compute_dtype, device=model.device)
    predicting = batch.of_rows(batch.of_inputs(hidden.detach())).to(model.compute_dtype)  # [P, d]
    nll, pull = _output_layer(model, batch, predicting, sink, draws)
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
    """One backward from dL/dh [P, d] to the input embeddings and to the outputs of the recorded layers."""
    import torch

    scale = _scale(model, pull)
    at_hidden = batch.as_inputs(batch.from_rows((pull if scale == 1 else pull * scale).to(hidden.dtype)))  # [B, T, d]
    sources = ([embeds] if sink.wants_embedding() else []) + [tap.output for tap in taps]
    found = [gradient.to(model.compute_dtype) for gradient in torch.autograd.grad(hidden, sources, at_hidden)]
    if scale != 1:
        found = [gradient / scale for gradient in found]
    if sink.wants_embedding():
        gradients = batch.of_inputs(found.pop(0))  # [N, d]
        if model.padding_id is not None:
            gradients = gradients.masked_fill((batch.ids == model.padding_id)[:, None], 0.0)
        sink.embedding(batch, gradients)
    for tap, delta in zip(taps, found, strict=True):  # [B, T, out]
        left, right = tap.factors(delta, model.compute_dtype)
        sink.linear(tap.layer, batch, batch.of_inputs(left), batch.of_inputs(right))


def _output_layer(
    model: LanguageModel, batch: Batch, hidden: Tensor, sink: GradientSink, draws: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cross-entropy [P] and dL/dh [P, d] of hidden states [P, d]; dL/dW goes to the sink chunk by chunk."""
    import torch

    nll, pull = hidden.new_empty(len(hidden)), torch.empty_like(hidden)  # [P], [P, d]
    weights = batch.weights[:, None]  # [P, 1]
    weighted = hidden * weights  # [P, d]
    backward = sink.wants_embedding() or bool(sink.wanted_linears())
    vocabulary = model.head.shape[0]
    max_rows = max(CHUNK_ROWS, buffer_elements(model.device, CHUNK_ELEMENTS) // vocabulary)
    # One buffer for all chunks: memory fresh from the system costs more to touch than a softmax.
    buffer = hidden.new_empty(min(max_rows, len(hidden)), vocabulary)
    with torch.no_grad():
        for spans in spans_in_chunks(batch.row_counts, max_rows):
            chunk = slice(spans[0].start, spans[-1].stop)
            targets = batch.targets[chunk, None]  # [n, 1]
            delta = model.logits(hidden[chunk], out=buffer[: chunk.stop - chunk.start])  # [n, V]
            nll[chunk] = _softmax_less_target(delta, targets, None if draws is None else draws[chunk])
            if backward:
                torch.mm(delta, model.head, out=pull[chunk]).mul_(weights[chunk])
            first = chunk.start
            sink.head(delta, weighted[chunk], [Span(s.window, s.start - first, s.stop - first) for s in spans])
    return nll, pull


def _softmax_less_target(logits: Tensor, targets: Tensor, draws: Tensor | None) -> Tensor:
    """Turn logits [n, V] into softmax - onehot(target) in place; returns the cross-entropy [n].

    With draws [n], the targets [n, 1] are drawn from the softmax instead.
    """
    import torch

    below = logits.amax(-1, keepdim=True) - logits.gather(1, targets)  # [n, 1]
    p = torch.softmax(logits, -1, out=logits)
    if draws is None:
        nll = below - p.amax(-1, keepdim=True).log()  # from the logits: p(target) itself may be 0 to rounding
    else:
        targets = drawn_labels(p, draws)
        nll = -p.gather(1, targets).log()
    p.scatter_add_(1, targets, p.new_full(targets.shape, -1.0))
    return nll[:, 0]


def drawn_labels(p: Tensor, draws: Tensor) -> Tensor:
    """Labels [n, 1] from probabilities [n, V]: the first id whose cumulative probability exceeds the draw [n]."""
    import torch

    cumulative = p.cumsum(-1)  # [n, V]
    draws = draws.clamp(max=1 - 2 * torch.finfo(draws.dtype).eps)  # one that rounds up to 1 would exceed every id
    labels = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)  # [n, 1]
    return labels.clamp_(max=p.shape[-1] - 1)  # NaN: the loss will say so


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
