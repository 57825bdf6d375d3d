"""Score one token shard into one row-aligned Parquet file; the file appears whole or not at all.

The file is its own completion marker: its key-value metadata says what it was made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.files import atomic_path
from automixer_assets.influence.query import InfluenceQuery
from automixer_assets.influence.score import OnNonfinite, OnProgress, PassOptions, Scores, compute_scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METADATA_PREFIX = "automixer."


@dataclass(frozen=True)
class ScoreMarker:
    """What a file of scores was made from: digests, and the options that decide its bytes."""

    query: str
    model: str
    shard: str
    options: str
    kernel_version: str

    def metadata(self) -> dict[bytes, bytes]:
        """Parquet key-value metadata: `automixer.query`, `automixer.model` and so on."""
        return {f"{METADATA_PREFIX}{key}".encode(): value.encode() for key, value in asdict(self).items()}

    def stands_in(self, path: Path) -> bool:
        """Whether `path` is a readable file of scores made from exactly this."""
        try:
            found = pq.read_metadata(path).metadata or {}
        except (OSError, pa.ArrowException):  # absent, or cut short by whoever copied it
            return False
        return all(found.get(key) == value for key, value in self.metadata().items())


def options_of(path: Path) -> dict[str, Any]:
    """The `PassOptions` that a file of scores was made with; empty where it does not say."""
    found = (pq.read_metadata(path).metadata or {}).get(f"{METADATA_PREFIX}options".encode())
    return json.loads(found) if found else {}


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
    batch_tokens: int | None = None,
    max_length: int | None = None,
    on_progress: OnProgress | None = None,
    on_nonfinite: OnNonfinite = "raise",
) -> ShardScores:
    """Score every document of a shard (paper, section 4): doc_id, n_tokens, loss, influence_<direction> per row.

    The batch plan depends on the shard and the limits alone, so the same call on the same machine writes the same
    bytes. Quarantined documents have nulls, so rows stay aligned with the shard. For a whole snapshot, or several
    processes, see `score_shards`.

    Raises:
        AutomixerError: as `score_documents`, naming doc_id and shard.
    """
    return write_scores(model, shard, query, out, PassOptions(batch_tokens, max_length, on_nonfinite), on_progress)


def write_scores(
    model: PreTrainedModel,
    shard: TokenShard,
    query: InfluenceQuery,
    out: Path,
    options: PassOptions,
    on_progress: OnProgress | None = None,
    marker: ScoreMarker | None = None,
) -> ShardScores:
    """Score a shard and write the file, with its marker where one is given."""
    doc_ids = shard.documents["doc_id"]
    scores = compute_scores(
        model,
        list(shard.iter_tokens()),
        query,
        options,
        on_progress=on_progress,
        name=lambda row: f"document '{doc_ids[row]}' of {shard.snapshot}/{shard.name}",
    )
    table = _table(doc_ids.to_list(), scores, query).replace_schema_metadata(marker.metadata() if marker else None)
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return ShardScores(
        path=out,
        n_documents=len(shard),
        n_tokens=int(scores.n_tokens.sum()),
        n_quarantined=int(scores.quarantined.sum()),
    )


def shard_digest(shard: TokenShard) -> str:
    """sha256, hex, over the shard's doc_ids and token ids, row by row."""
    digest = hashlib.sha256()
    for doc_id, tokens in zip(shard.documents["doc_id"].to_list(), shard.iter_tokens(), strict=True):
        digest.update(json.dumps([doc_id, len(tokens)]).encode())
        digest.update(np.ascontiguousarray(tokens, dtype="<u4").data)
    return digest.hexdigest()


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
