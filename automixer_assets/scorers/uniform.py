"""The uniform scorer: every document is worth the same. One group: the whole corpus."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.mixture.groups import GroupOrigin, utility_column

CORPUS_GROUP = "corpus"


class UniformScorer:
    """Utility 1.0 for every document, in the single group `corpus`."""

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        return (GroupOrigin(CORPUS_GROUP),)

    def utilities(self, shard: TokenShard) -> pa.Table:
        documents = pq.read_table(shard.documents_path, columns=["doc_id", "n_tokens"])
        ones = pa.array([1.0] * documents.num_rows, pa.float64())
        return documents.append_column(utility_column(CORPUS_GROUP), ones)
