"""The KFAC direction once more, slowly: the part of `reference.py` that goes token by token; an oracle for tests.

Factors by explicit loops over documents, windows and tokens through the model's own forward; r by one dense solve with
the whole [V d, V d] matrix. It shares with the fast path only the rule by which labels are drawn: token p of reference
document i takes the p-th uniform number of numpy's default generator under [seed, i], and the label is the first id
whose cumulative probability exceeds it. Give it a tiny float64 model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    Gradients = dict[str, Tensor]  # layer -> [V, d]
    TokenGradients = tuple[int, Tensor, Tensor, Tensor]  # x_t, h_t [d], delta_t [V], g_t [d]


def slow_kfac(
    model: PreTrainedModel,
    v: Mapping[str, Gradients],
    reference: Sequence[Sequence[int]],
    *,
    max_length: int | None = None,
    seed: int = 0,
    share: float = 0.1,
) -> tuple[dict[str, float], dict[str, Gradients]]:
    """Layer -> damping, task -> layer -> r [V, d]: r = (F + damping I)^-1 v, damping = share x F's mean eigenvalue."""
    import torch

    fisher = _fisher(model, list(next(iter(v.values()))), reference, max_length, seed)
    damping = {layer: share * float(matrix.trace()) / len(matrix) for layer, matrix in fisher.items()}
    r: dict[str, Gradients] = {task: {} for task in v}
    for layer, matrix in fisher.items():
        damped = matrix + damping[layer] * torch.eye(len(matrix), dtype=matrix.dtype)
        for task in v:
            shape = v[task][layer].shape
            r[task][layer] = torch.linalg.solve(damped, v[task][layer].flatten()).reshape(shape)
    return damping, r


def _fisher(
    model: PreTrainedModel, layers: list[str], reference: Sequence[Sequence[int]], max_length: int | None, seed: int
) -> dict[str, Tensor]:
    """Layer -> [V d, V d]: diag(S) x A for the head, diag(f) x S_e for the embedding, their sum for tied weights."""
    import torch

    inputs: Any = model.get_input_embeddings()
    outputs: Any = model.get_output_embeddings()
    (rows, width), heads = inputs.weight.shape, outputs.weight.shape[0]
    a, s_e = torch.zeros(2, width, width, dtype=torch.float64)
    s, f = torch.zeros(heads, dtype=torch.float64), torch.zeros(rows, dtype=torch.float64)
    n = 0
    for x, hidden, delta, g in _tokens(model, reference, max_length, seed):
        n += 1
        a += torch.outer(hidden, hidden)
        s += delta * delta
        if x != inputs.padding_idx:  # torch gives a padding id's embedding no gradient
            f[x] += 1
            s_e += torch.outer(g, g)
    head, embedding = torch.kron(torch.diag(s / n), a / n), torch.kron(torch.diag(f / n), s_e / n)
    if inputs.weight is outputs.weight:
        return {"embedding": head + embedding}
    return {layer: {"head": head, "embedding": embedding}[layer] for layer in layers}


def _tokens(
    model: PreTrainedModel, reference: Sequence[Sequence[int]], max_length: int | None, seed: int
) -> Iterator[TokenGradients]:
    """Every predicted token of every window: its input, hidden state, and gradients under a drawn label."""
    import torch

    length = max_length or model.config.max_position_embeddings
    for index, ids in enumerate(reference):
        draws = np.random.default_rng([seed, index]).random(len(ids))
        for start in range(0, len(ids) - 1, length - 1):
            window = [int(i) for i in ids[start : start + length]]
            seen = _Seen()
            with seen.watching(model):
                logits = model(input_ids=torch.tensor([window[:-1]]), use_cache=False).logits[0]  # [T, V]
            labels = [_label(logits[t], draws[start + 1 + t]) for t in range(len(logits))]
            nll = -logits.log_softmax(-1)[torch.arange(len(labels)), labels].sum()
            delta, g = torch.autograd.grad(nll, [logits, seen.embeds])  # [T, V], [1, T, d]
            for t, x in enumerate(window[:-1]):
                yield x, seen.hidden[0, t], delta[t], g[0, t]


def _label(logits: Tensor, draw: float) -> int:
    total = 0.0
    for label, probability in enumerate(logits.softmax(-1).tolist()):
        total += probability
        if total > draw:
            return label
    return len(logits) - 1


@dataclass
class _Seen:
    """What passes through the model at its two matrices."""

    embeds: Any = None  # [1, T, d], the root of the graph
    hidden: Any = None  # [1, T, d]

    def watching(self, model: PreTrainedModel) -> Any:
        import contextlib

        def at_embedding(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            self.embeds = output.detach().requires_grad_(True)
            return self.embeds

        def at_head(_module: Any, inputs: tuple[Tensor]) -> None:
            self.hidden = inputs[0].detach()

        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        assert embedding is not None and head is not None
        stack = contextlib.ExitStack()
        stack.callback(embedding.register_forward_hook(at_embedding).remove)
        stack.callback(head.register_forward_pre_hook(at_head).remove)
        return stack
