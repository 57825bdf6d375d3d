"""What strategies without checkpoints share: one group, the whole corpus, ranked by one number per document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.mixture.groups import GroupOrigin, utility_column
from automixer_assets.mixture.normalisation import Normalisation

CORPUS_GROUP = "corpus"


def corpus_origins(options: Mapping[str, Any]) -> tuple[GroupOrigin, ...]:
    """One group, whatever the options."""
    return (GroupOrigin(CORPUS_GROUP),)


@dataclass(frozen=True)
class CorpusScorer:
    """`score` gives a utility per document of a shard, [documents]; the second argument is their `doc_id, n_tokens`."""

    score: Callable[[TokenShard, pa.Table], np.ndarray]
    constants: dict[str, Normalisation] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        return corpus_origins({})

    def utilities(self, shard: TokenShard) -> pa.Table:
        documents = pq.read_table(shard.documents_path, columns=["doc_id", "n_tokens"])
        scores = pa.array(np.asarray(self.score(shard, documents), dtype=np.float64))
        return documents.append_column(utility_column(CORPUS_GROUP), scores)


def uniform_numbers(documents: pa.Table, seed: int) -> np.ndarray:
    """A number in (0, 1) per document, from its id and the seed, [documents]."""
    ids = documents["doc_id"].to_pylist()
    keys = np.array([xxhash.xxh3_64_intdigest(doc_id.encode(), seed=seed) for doc_id in ids], dtype=np.uint64)
    return ((keys >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
