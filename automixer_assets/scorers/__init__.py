"""The first seam: a Scorer gives row-aligned utility columns for a shard, one per group.

Influence, perplexity, an n-gram score or an external column: each is a class with `groups` and `utilities`.
`write_scored_shard` is what turns any of them into a joint_influence shard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import blend, read_documents, require_aligned
from automixer_assets.mixture.parquet import write_table


class Scorer(Protocol):
    """Higher utility is better; a document's utility depends on the document and frozen constants alone."""

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        """The groups it ranks documents for, in column order; their alphas blend the joint utility."""
        ...

    def utilities(self, shard: TokenShard) -> pa.Table:
        """`doc_id, n_tokens, utility__GROUP ...`, a row per document of the shard, in its order."""
        ...


def write_scored_shard(scorer: Scorer, shard: TokenShard, out: Path) -> None:
    """Score a shard, verify that the rows are the shard's, blend, and write the joint_influence file."""
    utilities = scorer.utilities(shard)
    require_aligned(utilities, out, read_documents(shard.documents_path), shard.documents_path)
    write_table(blend(utilities, {group.name: group.alpha for group in scorer.groups}), out)
