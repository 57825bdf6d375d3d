"""The method once more, slowly: an oracle for tests, never used by the pipeline.

Per document: the model's own forward, autograd's full parameter gradients, and the paper's formulas as they stand
(section 4). It shares no code with the fast path. Give it a float64 model; memory is n x layers x V x d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    Gradients = dict[str, Tensor]  # layer -> [V, d]
    Items = Sequence[tuple[Sequence[int], Sequence[bool]]]


@dataclass(frozen=True)
class ReferenceQuery:
    """Task -> layer -> matrix [V, d], and layer -> lambda."""

    v: dict[str, Gradients]
    lambda_: dict[str, float]
    r: dict[str, Gradients]


def slow_query(
    model: PreTrainedModel,
    validation: Mapping[str, Items],
    reference: Sequence[Sequence[int]],
    *,
    layers: Sequence[str] = ("embedding", "head"),
    curvature: str = "datainf",
    loss: str = "mean",
    max_length: int | None = None,
    seed: int = 0,
) -> ReferenceQuery:
    """v, lambda and r by the paper's formulas (section 4, steps 1 to 3); kfac as `reference_kfac.py` has it."""
    import torch

    v: dict[str, Gradients] = {}
    for task, items in validation.items():
        gradients = [_gradient(model, ids, mask, layers, loss, max_length) for ids, mask in items]
        v[task] = {layer: torch.stack([g[layer] for g in gradients]).mean(0) for layer in gradients[0]}
    if curvature == "identity":
        return ReferenceQuery(v=v, lambda_={}, r=v)
    if curvature == "kfac":
        from automixer_assets.influence.reference_kfac import slow_kfac

        return ReferenceQuery(v, *slow_kfac(model, v, reference, max_length=max_length, seed=seed))
    samples = [_gradient(model, ids, [True] * len(ids), layers, loss, max_length) for ids in reference]
    lambda_ = {
        layer: 0.1 / (len(samples) * samples[0][layer].numel()) * sum(float((g[layer] ** 2).sum()) for g in samples)
        for layer in samples[0]
    }
    return ReferenceQuery(v=v, lambda_=lambda_, r={task: _datainf(v[task], samples, lambda_) for task in v})


def _datainf(v: Gradients, samples: Sequence[Gradients], lambda_: Mapping[str, float]) -> Gradients:
    """r_l = sum_i (v_l - c_li g_li) / (n lambda_l), c_li = v_l.g_li / (lambda_l + |g_li|^2) (section 4, step 3)."""
    r = {}
    for layer, damping in lambda_.items():
        r[layer] = 0 * v[layer]  # [V, d]
        for gradient in samples:
            g = gradient[layer]
            c = (v[layer] * g).sum() / (damping + (g * g).sum())
            r[layer] += (v[layer] - c * g) / (len(samples) * damping)
    return r


def slow_scores(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    query: ReferenceQuery,
    *,
    layers: Sequence[str] = ("embedding", "head"),
    loss: str = "mean",
    max_length: int | None = None,
) -> Tensor:
    """Influence [n, m], paper's sign: I(x) = - sum_l r_l . grad_l l(x) (section 4, step 4)."""
    import torch

    scores = []  # n of [m]
    for ids in documents:
        gradient = _gradient(model, ids, [True] * len(ids), layers, loss, max_length)
        scores.append([-sum(float((r[layer] * gradient[layer]).sum()) for layer in gradient) for r in query.r.values()])
    return torch.tensor(scores, dtype=torch.float64)


def slow_loss(
    model: PreTrainedModel, ids: Sequence[int], mask: Sequence[bool], loss: str = "mean", max_length: int | None = None
) -> Tensor:
    """A document's loss, differentiable: sum or mean of cross-entropy over the tokens where `mask` is True.

    Windows of `max_length` tokens overlap by one; their losses are averaged by their counted tokens.
    """
    import torch

    length = max_length or model.config.max_position_embeddings
    total, counted = torch.zeros((), dtype=torch.float64, device=model.device), 0
    start = 0
    while start + 1 < len(ids):
        window = torch.tensor([[int(i) for i in ids[start : start + length]]], device=model.device)  # [1, T]
        flags = torch.tensor([bool(f) for f in mask[start + 1 : start + length]], device=model.device)  # [T - 1]
        log_p = model(input_ids=window, use_cache=False).logits[0, :-1].log_softmax(-1)  # [T - 1, V]
        nll = -log_p.gather(1, window[0, 1:, None])[:, 0]  # [T - 1]
        total, counted = total + nll[flags].sum(), counted + int(flags.sum())
        start += length - 1
    return total / max(counted, 1) if loss == "mean" else total


def _gradient(
    model: PreTrainedModel,
    ids: Sequence[int],
    mask: Sequence[bool],
    layers: Sequence[str],
    loss: str,
    max_length: int | None,
) -> Gradients:
    """Gradient of one document's loss by layer; tied weights are one parameter, so autograd adds both parts."""
    import torch

    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    named: dict[str, Tensor] = {"embedding": embedding.weight, "head": head.weight}
    if embedding.weight is head.weight and set(layers) & set(named):
        matrices = {"embedding": embedding.weight}
    else:
        matrices = {layer: named[layer] for layer in layers if layer in named}
    others: dict[str, Any] = {layer: model.get_submodule(layer) for layer in layers if layer not in named}
    matrices |= {layer: module.weight for layer, module in others.items()}
    value = slow_loss(model, ids, mask, loss, max_length)
    if not value.requires_grad:  # nothing is predicted
        return {layer: torch.zeros_like(matrix) for layer, matrix in matrices.items()}
    return dict(zip(matrices, torch.autograd.grad(value, list(matrices.values())), strict=True))
