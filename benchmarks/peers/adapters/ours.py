"""`automixer_assets.influence.score_documents`, as anyone would call it."""

from __future__ import annotations

import numpy as np

from automixer_assets.influence import InfluenceQuery, score_documents
from benchmarks.peers.case import Case, Score

DISTRIBUTION = "automixer-assets"
NOTE = ""


def prepare(case: Case) -> Score:
    query = InfluenceQuery.load(case.folder.parent / "query", model_digest="", tokenizer_digest="")
    documents = case.documents.tolist()

    def score() -> np.ndarray:
        table = score_documents(case.model, documents, query, batch_tokens=case.batch_tokens)
        return -np.stack([table[f"influence_{name}"].to_numpy() for name in query.names], axis=1)  # [n, m]

    return score
