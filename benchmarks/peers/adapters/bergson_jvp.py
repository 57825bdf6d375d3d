"""bergson's forward-mode scoring: `bergson.score.output_influence.output_token_influence`, one pass per direction.

This is what `token_influence="output"` runs. Configured: mean loss, per-token rates added up per document, eager
attention (bergson sets it too: fused attention has no forward derivative). bergson itself offers only the linear
layers of `model.base_model`; the function takes any weight, so embedding and head are forced here.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import numpy as np
from bergson import IndexConfig
from bergson.score.output_influence import output_token_influence

from benchmarks.peers.case import Case, Score

DISTRIBUTION = "bergson"
NOTE = "embedding and head forced; one pass per direction"


def prepare(case: Case) -> Score:
    case.model.set_attn_implementation("eager")
    config = IndexConfig(run_path=str(case.folder / "run"), loss_reduction="mean", projection_dim=0)
    directions: list[Any] = [
        (r.flatten(1).T, f"{name}.weight", None, False)  # [rows * columns, m], weight, bias, transposed
        for name, r in case.query.items()
    ]

    def score() -> np.ndarray:
        rows = []
        for batch in case.batches:
            ids = case.documents[batch]
            rates, _ = output_token_influence(case.model, ids, ids, directions, config)  # [B, T - 1, m]
            rows.append(rates.sum(dim=1).numpy())
        return np.concatenate(rows)

    return score
