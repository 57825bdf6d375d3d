"""Exact copies within a snapshot are scored once: the first of equal texts, by shard and row, lends its scores.

Which documents those are depends on the snapshot alone, so a pass that was killed and resumed writes the same bytes.
Copies in other snapshots are scored again on purpose: a score that was taken from whichever snapshot came first would
depend, in its last bits, on the order in which snapshots arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.files import atomic_path
from automixer_assets.influence.query import InfluenceQuery
from automixer_assets.influence.score import OnProgress, PassOptions
from automixer_assets.influence.shard import METADATA_PREFIX, shard_digest
from automixer_assets.influence.shards import score_shards
from automixer_assets.mixture.sql import run_sql

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ScoreShards = Callable[[Sequence[TokenShard], Path, OnProgress], None]
"""Scores shards into a folder, one `<shard>.parquet` each, as `score_shards` does."""


@dataclass(frozen=True)
class DistinctShard(TokenShard):
    """A shard without the documents in `copies` (ascending rows); its tokens are the whole shard's."""

    copies: tuple[int, ...] = field(default=(), repr=False)

    @cached_property
    def documents(self) -> pl.DataFrame:
        documents = pl.read_parquet(self.documents_path)
        return documents.filter(~np.isin(np.arange(documents.height), self.copies))


def score_distinct(
    model: PreTrainedModel,
    shards: Sequence[TokenShard],
    query: InfluenceQuery,
    folder: Path,
    *,
    scratch: Path,
    model_digest: str,
    options: PassOptions | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Score all shards of a snapshot as `score_shards` does, each text once; files are row-aligned with the shards.

    Args:
        scratch: an empty folder, or that of a killed pass: the scores of distinct texts, where there are copies.
        on_progress: called with (tokens done, tokens in all); those of copies count as done.
    """

    def score(chosen: Sequence[TokenShard], into: Path, report: OnProgress) -> None:
        score_shards(model, chosen, query, into, model_digest=model_digest, options=options, on_progress=report)

    score_distinct_with(score, shards, folder, scratch=scratch, on_progress=on_progress)


def score_distinct_with(
    score: ScoreShards,
    shards: Sequence[TokenShard],
    folder: Path,
    *,
    scratch: Path,
    on_progress: OnProgress | None = None,
) -> None:
    """The same with whatever scores shards into a folder, here or on a cluster."""
    report = on_progress or (lambda done, total: None)
    copies = exact_copies(shards)
    if copies.is_empty():
        score(shards, folder, report)
        return
    copied = int(copies["n_tokens"].sum())
    score(
        [shard for shard in _distinct(shards, copies) if len(shard)],
        scratch,
        lambda done, total: report(done + copied, total + copied),
    )
    lent = _lent_scores(copies, scratch)
    for shard in shards:
        _write_whole(shard, scratch / f"{shard.name}.parquet", lent, folder / f"{shard.name}.parquet")


def exact_copies(shards: Sequence[TokenShard]) -> pl.DataFrame:
    """Documents whose text an earlier one has: `shard, row, n_tokens, first_shard, first_row`, by shard and row."""
    places = [{"file": str(shard.documents_path), "shard": shard.name} for shard in shards]
    found = run_sql("exact_copies", {"files": [place["file"] for place in places], "shards": places})
    return pl.DataFrame(found)


def _distinct(shards: Sequence[TokenShard], copies: pl.DataFrame) -> list[DistinctShard]:
    rows = {str(name): tuple(group["row"]) for (name,), group in copies.group_by("shard", maintain_order=True)}
    return [
        DistinctShard(each.snapshot, each.name, each.folder, each.dtype, rows.get(each.name, ())) for each in shards
    ]


def _lent_scores(copies: pl.DataFrame, scratch: Path) -> pa.Table:
    """The scores of every copy, taken from the first of its text, with `shard` and `row` of the copy."""
    parts = []
    for (name,), lent in copies.group_by("first_shard", maintain_order=True):
        removed = copies.filter(pl.col("shard") == name)["row"].to_numpy()
        first_rows = lent["first_row"].to_numpy()
        scores = pq.read_table(scratch / f"{name}.parquet").take(first_rows - np.searchsorted(removed, first_rows))
        parts.append(
            scores.append_column("shard", lent["shard"].to_arrow()).append_column("row", lent["row"].to_arrow())
        )
    return pa.concat_tables(parts)


def _write_whole(shard: TokenShard, distinct: Path, lent: pa.Table, out: Path) -> None:
    """Put a shard's own scores and those that were lent to it together, in row order, with the marker of the whole."""
    own_copies = lent.filter(pc.field("shard") == shard.name)
    rows = own_copies["row"].to_numpy()
    tables = [own_copies.drop_columns(["shard", "row"])]
    if distinct.exists():
        tables.insert(0, pq.read_table(distinct))
    own_rows = np.setdiff1d(np.arange(len(shard)), rows)
    table = pa.concat_tables(tables).take(np.argsort(np.concatenate([own_rows, rows])))
    doc_ids = pa.array(shard.documents["doc_id"].to_list(), pa.string())
    marker = {**tables[0].schema.metadata, f"{METADATA_PREFIX}shard".encode(): shard_digest(shard).encode()}
    with atomic_path(out) as temporary:
        whole = table.set_column(table.schema.get_field_index("doc_id"), "doc_id", doc_ids)
        pq.write_table(whole.replace_schema_metadata(marker), temporary, compression="zstd")
