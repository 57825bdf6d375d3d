"""How much of a group's mean utility does each validation item carry? Influence with its two sides exchanged.

A document x has utility  u_t(x) = r_t . grad l(x)  for a task t, where  r_t = C^-1 v_t,  v_t = mean over the task's
items i of grad l(i),  and C^-1 is the curvature's inverse: mean_j (lambda I + g_j g_j^T)^-1 for datainf, over reference
documents j; (F + damping I)^-1 for kfac; I for identity (paper, section 4, step 3). It is linear and symmetric, and
depends on no item. So for any weights p

    sum_x p_x u_t(x)  =  v_t . C^-1 G  =  mean over i of  a_i,    a_i = grad l(i) . C^-1 G,    G = sum_x p_x grad l(x).

That is: fit a query whose "validation set" is the documents, pooled by p, and score the *items* against it as if they
were documents. One direction per pool of documents then gives the share of every item in every pool's mean utility,
where the ordinary way would need one direction per item. Resampling items afterwards is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import TokenIds, masked_document
from automixer_assets.influence.curvature import DAMPING
from automixer_assets.influence.fit import OnProgress, Pool, fit_query, tokens_of_fit
from automixer_assets.influence.score import PassOptions, score_prepared

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Items = Sequence[tuple[TokenIds, Any]]


def score_items(
    model: PreTrainedModel,
    items: Mapping[str, Items],
    pools: Mapping[str, Mapping[int, float]],
    documents: Sequence[TokenIds],
    reference: Sequence[TokenIds],
    *,
    layers: Sequence[str] = ("embedding", "head"),
    curvature: str = "datainf",
    damping: float = DAMPING,
    seed: int = 0,
    batch_tokens: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, np.ndarray]:
    """Share of every validation item in the weighted utility of pools of documents.

    Args:
        items: task -> items as in `fit_query`.
        pools: pool -> {number of a document: its weight p}; weights may be negative and need not sum to 1.
        documents: what the pools are made of. One without a predicted token has utility 0 and changes nothing.
        reference: as in `fit_query`; the same documents fix the same curvature.

    Returns:
        Task -> [items, pools] float64 in the order given. The mean over a task's items is the pool's sum of
        p x (- influence of the document on the task), in the units of `score_documents`.

    Raises:
        AutomixerError: as `fit_query`; a pool without a document that predicts anything.
    """
    validation, pooled = _as_validation(documents, pools)
    flat = [
        masked_document(ids, mask, "mean", f"validation item {number} of task '{task}'")
        for task, pairs in items.items()
        for number, (ids, mask) in enumerate(pairs)
    ]
    of_fit = tokens_of_fit(validation, reference, curvature, pooled)
    total = of_fit + sum(item.n_counted for item in flat)

    def tick(already: int) -> OnProgress | None:
        if on_progress is None:
            return None
        report = on_progress
        return lambda done, _: report(already + done, total)

    query = fit_query(
        model,
        validation,
        reference,
        layers=layers,
        curvature=curvature,
        damping=damping,
        pool=pooled,
        seed=seed,
        batch_tokens=batch_tokens,
        on_progress=tick(0),
    )
    scores = score_prepared(
        model,
        flat,
        query,
        PassOptions(batch_tokens=batch_tokens),
        on_progress=tick(of_fit),
        name=lambda index: f"validation item {index}",
    )
    ends = np.cumsum([len(pairs) for pairs in items.values()])[:-1]
    parts = np.split(0.0 - scores.influence.astype(np.float64), ends)  # tasks of [items, pools]
    return dict(zip(items, parts, strict=True))


def _as_validation(
    documents: Sequence[TokenIds], pools: Mapping[str, Mapping[int, float]]
) -> tuple[dict[str, list[tuple[TokenIds, list[bool]]]], Pool]:
    """Every document a "task" of one item, pooled; those that no pool wants or that predict nothing are left out."""
    pooled = {
        name: {str(number): weight for number, weight in weights.items() if weight and len(documents[number]) > 1}
        for name, weights in pools.items()
    }
    empty = [name for name, weights in pooled.items() if not weights]
    if empty:
        raise AutomixerError(
            f"pool '{empty[0]}' has no document with a predicted token and a weight other than 0: "
            "give it documents of at least two tokens"
        )
    wanted = sorted({int(number) for weights in pooled.values() for number in weights})
    validation = {
        str(number): [(documents[number], [position > 0 for position in range(len(documents[number]))])]
        for number in wanted
    }
    return validation, pooled
