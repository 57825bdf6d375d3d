"""Score one token shard into one row-aligned Parquet file; the file appears whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.files import atomic_path
from automixer_assets.influence.query import InfluenceQuery
from automixer_assets.influence.score import OnNonfinite, OnProgress, Scores, compute_scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ShardScores:
    """What was written: counts for logs and metadata."""

    path: Path
    n_documents: int
    n_tokens: int
    n_quarantined: int


def score_shard(
    model: PreTrainedModel,
    shard: TokenShard,
    query: InfluenceQuery,
    out: Path,
    batch_tokens: int,
    max_length: int | None = None,
    on_progress: OnProgress | None = None,
    on_nonfinite: OnNonfinite = "raise",
) -> ShardScores:
    """Score every document of a shard (paper, section 4): doc_id, n_tokens, loss, influence_<direction> per row.

    The batch plan depends on the shard and the limits alone, so the same call on the same machine writes the same
    bytes. Quarantined documents have nulls, so rows stay aligned with the shard.

    Raises:
        AutomixerError: as `score_documents`, naming doc_id and shard.
    """
    doc_ids = shard.documents["doc_id"]
    scores = compute_scores(
        model,
        list(shard.iter_tokens()),
        query,
        batch_tokens=batch_tokens,
        max_length=max_length,
        on_nonfinite=on_nonfinite,
        on_progress=on_progress,
        name=lambda row: f"document '{doc_ids[row]}' of {shard.snapshot}/{shard.name}",
    )
    with atomic_path(out) as temporary:
        pq.write_table(_table(doc_ids.to_list(), scores, query), temporary, compression="zstd")
    return ShardScores(
        path=out,
        n_documents=len(shard),
        n_tokens=int(scores.n_tokens.sum()),
        n_quarantined=int(scores.quarantined.sum()),
    )


def _table(doc_ids: list[str], scores: Scores, query: InfluenceQuery) -> pa.Table:
    null = scores.quarantined

    def column(values: np.ndarray) -> pa.Array:
        return pa.array(values.astype(np.float32), mask=null)

    return pa.table(
        {
            "doc_id": pa.array(doc_ids, pa.string()),
            "n_tokens": pa.array(scores.n_tokens, pa.int64()),
            "loss": column(scores.loss),
            **{f"influence_{name}": column(scores.influence[:, k]) for k, name in enumerate(query.names)},
        }
    )
