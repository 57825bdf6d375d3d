"""`torch.func.vmap` over `torch.func.grad` of the scored weights alone, a batch of documents at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch.func import functional_call, grad, vmap

from benchmarks.peers.case import Case, Score

DISTRIBUTION = "torch"
NOTE = ""


def prepare(case: Case) -> Score:
    case.model.requires_grad_(False)
    weights = {f"{name}.weight": weight.detach() for name, weight in case.parameters.items()}

    def loss(weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        logits = functional_call(case.model, weights, (ids[None],), {"use_cache": False}).logits[0, :-1]  # [T - 1, V]
        return torch.nn.functional.cross_entropy(logits, ids[1:])

    gradients = vmap(grad(loss), in_dims=(None, 0))

    def score() -> np.ndarray:
        rows = []
        for batch in case.batches:
            by_weight = gradients(weights, case.documents[batch])
            rows.append(case.dots({name: by_weight[f"{name}.weight"] for name in case.query}))
        return torch.cat(rows).numpy()

    return score
