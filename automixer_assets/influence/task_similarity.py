"""How alike tasks are in what they would teach the model: cosines between their mean validation gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.influence.batches import TokenIds
from automixer_assets.influence.fit import OnProgress, fit_query

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COSINES_SCHEMA = {"task": pl.String, "other": pl.String, "cosine": pl.Float64}


def task_cosines(
    model: PreTrainedModel,
    validation: Mapping[str, Sequence[tuple[TokenIds, Any]]],
    *,
    batch_tokens: int | None = None,
    on_progress: OnProgress | None = None,
) -> pl.DataFrame:
    """A row per ordered pair of tasks: the cosine of v (paper, section 4, step 1) over embedding and output matrix.

    Tied weights are one matrix. A task without any gradient has cosine 0 with the others.
    """
    import torch

    query = fit_query(
        model, validation, reference=[], curvature="identity", batch_tokens=batch_tokens, on_progress=on_progress
    )
    assert query.v is not None
    products = sum(torch.einsum("kvd,lvd->kl", v.double(), v.double()) for v in query.v.values())  # [m, m]
    assert isinstance(products, torch.Tensor)
    norms = products.diagonal().sqrt().clamp_min(torch.finfo(products.dtype).tiny)
    cosines = (products / norms[:, None] / norms[None]).tolist()
    rows = [
        {"task": task, "other": other, "cosine": 1.0 if k == j else cosines[k][j]}
        for k, task in enumerate(query.names)
        for j, other in enumerate(query.names)
    ]
    return pl.DataFrame(rows, schema=COSINES_SCHEMA)
