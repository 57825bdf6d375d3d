"""TRAK's `TRAKer.featurize` with a projector of ours: the m directions take the place of random projections.

TRAK's own score (projected features times an inverse Gram matrix) is another quantity, so only its first stage is
compared: per-document gradients by vmap, projected at once, which is where its time and memory go. Configured: float32,
`grad_wrt` the scored weights. TRAK differentiates every parameter and drops the others afterwards.
"""
# TRAK's own outputs are static methods too, though their base class is not.
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import torch
from torch.func import functional_call
from trak import TRAKer
from trak.modelout_functions import AbstractModelOutput
from trak.projectors import AbstractProjector

from benchmarks.peers.case import Case, Score

DISTRIBUTION = "traker"
NOTE = "gradients and projection only: its own score is another quantity"


class MeanLoss(AbstractModelOutput):
    def __init__(self) -> None:
        pass

    @staticmethod
    def get_output(model: Any, weights: Any, buffers: Any, ids: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, (weights, buffers), (ids[None],), {"use_cache": False}).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, ids[1:])

    @staticmethod
    def get_out_to_loss_grad(model: Any, weights: Any, buffers: Any, batch: Any) -> torch.Tensor:
        return torch.ones(len(batch[0]), 1)


def prepare(case: Case) -> Score:
    class GivenDirections(AbstractProjector):
        def __init__(self) -> None:
            super().__init__(0, len(case.items), seed=0, proj_type="normal", device="cpu")

        def project(self, grads: Any, model_id: int) -> torch.Tensor:
            return case.dots({name: grads[f"{name}.weight"] for name in case.query})

    traker = TRAKer(
        model=case.model,
        task=MeanLoss(),
        train_set_size=len(case.documents),
        save_dir=str(case.folder / "store"),
        device="cpu",
        projector=GivenDirections(),
        proj_dim=len(case.items),
        use_half_precision=False,
        grad_wrt=[f"{name}.weight" for name in case.query],
    )
    runs = count()

    def score() -> np.ndarray:
        traker.load_checkpoint(case.model.state_dict(), model_id=next(runs))  # a new store: nothing counts as done
        for batch in case.batches:
            traker.featurize([case.documents[batch]], inds=np.array(batch))
        return np.array(traker.saver.current_store["grads"]) * float(traker.normalize_factor)

    return score
