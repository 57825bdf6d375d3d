"""The naive loop: one document at a time, `torch.autograd.grad` of the scored weights, dot products with r."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.peers.case import Case, Score, mean_loss

DISTRIBUTION = "torch"
NOTE = "one document at a time"


def prepare(case: Case) -> Score:
    parameters = case.parameters

    def score() -> np.ndarray:
        rows = []
        for ids in case.documents:
            gradients = torch.autograd.grad(mean_loss(case.model, ids[None])[0], list(parameters.values()))
            by_name = {name: gradient[None] for name, gradient in zip(parameters, gradients, strict=True)}
            rows.append(case.dots(by_name))  # [1, m]
        return torch.cat(rows).numpy()

    return score
