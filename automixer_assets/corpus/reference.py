"""The reference sample: the frozen documents that fix curvature and normalisation constants.

Chosen by a seeded hash of the document id, so the sample does not depend on shard sizes or file order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import xxhash

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError


def write_reference_sample(snapshots: Sequence[TokenizedSnapshot], *, documents: int, seed: int, out: Path) -> None:
    """Write `reference.parquet` (snapshot, shard, row, doc_id, token_ids) in hash order.

    Raises:
        AutomixerError: the snapshots hold fewer documents than asked for.
    """
    chosen = _lowest_keys(snapshots, documents, seed)
    if chosen.height < documents:
        raise AutomixerError(
            f"the reference sample needs {documents} documents but its snapshots hold {chosen.height}: "
            "lower reference_sample.documents or add snapshots"
        )
    shards = {(snapshot.snapshot, shard.name): shard for snapshot in snapshots for shard in snapshot.shards}
    token_ids = [
        pl.Series(shards[snapshot, shard].document_tokens(row).astype(np.int32))  # arrays of one length make an Array
        for snapshot, shard, row in chosen.select("snapshot", "shard", "row").iter_rows()
    ]
    table = chosen.drop("key").with_columns(pl.Series("token_ids", token_ids, dtype=pl.List(pl.Int32)))
    table.write_parquet(out / "reference.parquet")


def read_reference_sample(folder: Path) -> list[list[int]]:
    """Token ids of the sample's documents, in hash order."""
    return pl.read_parquet(folder / "reference.parquet")["token_ids"].to_list()


def _lowest_keys(snapshots: Sequence[TokenizedSnapshot], documents: int, seed: int) -> pl.DataFrame:
    """The documents with the lowest hash keys, keeping no more than `documents` of them at any time."""
    best = pl.DataFrame(
        schema={"snapshot": pl.String, "shard": pl.String, "row": pl.Int64, "doc_id": pl.String, "key": pl.UInt64}
    )
    for snapshot in snapshots:
        for shard in snapshot.shards:
            ids = shard.documents["doc_id"]
            keys = pl.Series([xxhash.xxh3_64_intdigest(doc_id.encode(), seed=seed) for doc_id in ids], dtype=pl.UInt64)
            candidates = pl.DataFrame(
                {
                    "snapshot": pl.Series([snapshot.snapshot] * len(ids), dtype=pl.String),
                    "shard": pl.Series([shard.name] * len(ids), dtype=pl.String),
                    "row": pl.int_range(len(ids), eager=True),
                    "doc_id": ids,
                    "key": keys,
                }
            )
            best = pl.concat([best, candidates]).sort("key", "doc_id", "snapshot").head(documents)
    return best
