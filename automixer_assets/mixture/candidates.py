"""The candidates of a mixture: its snapshots' documents without those that it must not use.

Excluded documents take no part in the top share, so they are taken out before groups are formed. Regrouping numbers
rows by their place in the shard that it reads; `restore_rows` turns those numbers back into places in the whole shard.
Memory is bounded by one shard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.parquet import write_batches, write_table
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.sql import open_database
from automixer_assets.scorers._lexical import Lexical, lexical_column, lexical_expression

EXCLUDED_SCHEMA = {"row": pl.Int64, "doc_id": pl.String, "reason": pl.String}
PLACE_SCHEMA = {"snapshot": pl.String, "shard": pl.String, "row": pl.Int64}
SUMMARY_SCHEMA = {"snapshot": pl.String, "reason": pl.String, "n_documents": pl.Int64, "n_tokens": pl.Int64}


@dataclass(frozen=True)
class LexicalFilter:
    """A cheap score that a document must reach before it is ranked at all (DESIGN: filter first).

    Attributes:
        folders: snapshot -> its lexical_scores folder.
        floor: lowest score that stays; a constant, so that a new snapshot changes nothing about older documents.
    """

    folders: Mapping[str, Path]
    score: Lexical
    floor: float

    @classmethod
    def fitted(cls, folders: Mapping[str, Path], score: Lexical, reference: Path, drop_share: float) -> LexicalFilter:
        """The floor under which that share of the frozen reference sample lies."""
        scores = np.sort(lexical_column(reference, score))
        return cls(folders, score, float(scores[math.floor(Fraction(str(drop_share)) * len(scores))]))

    def of(self, snapshot: str, shard: str) -> pl.DataFrame:
        """`row, doc_id, reason` of the shard's documents below the floor."""
        scores = pl.scan_parquet(self.folders[snapshot] / f"{shard}.parquet", row_index_name="row")
        expression = lexical_expression(self.score, scores.collect_schema().names())
        below = scores.filter(expression < self.floor).cast({"row": pl.Int64})
        return below.select("row", "doc_id", reason=pl.lit("filtered")).collect()


@dataclass(frozen=True)
class Exclusions:
    """Which documents a mixture must not use.

    Attributes:
        leakage: snapshot -> its leakage folder; empty where the mixture keeps documents that repeat scored items.
        removed: snapshot -> its removed_documents folder; empty without a removal list.
        lexical: the cheap filter, if the mixture has one.
        copies: file of `write_copies`; None where the mixture keeps documents with the same text.
    """

    leakage: Mapping[str, Path]
    removed: Mapping[str, Path]
    lexical: LexicalFilter | None = None
    copies: Path | None = None

    def of(self, snapshot: str, shard: str) -> pl.DataFrame:
        """`row, doc_id, reason` of a shard's excluded documents: `removed`, or `leaked`, `filtered`, `copy`; by row."""
        found = [pl.DataFrame(schema=EXCLUDED_SCHEMA)]
        if snapshot in self.removed:
            removed = pl.scan_parquet(self.removed[snapshot] / "removed.parquet").filter(pl.col("shard") == shard)
            found.append(removed.select("row", "doc_id", reason=pl.lit("removed")).collect())
        if snapshot in self.leakage:
            flags = pl.scan_parquet(self.leakage[snapshot] / f"{shard}.parquet", row_index_name="row")
            leaked = flags.filter(pl.col("n_ngrams") > 0).cast({"row": pl.Int64})
            found.append(leaked.select("row", "doc_id", reason=pl.lit("leaked")).collect())
        if self.lexical is not None:
            found.append(self.lexical.of(snapshot, shard))
        if self.copies is not None:
            place = (pl.col("snapshot") == snapshot) & (pl.col("shard") == shard)
            copies = pl.scan_parquet(self.copies).filter(place)
            found.append(copies.select("row", "doc_id", reason=pl.lit("copy")).collect())
        return pl.concat(found).unique("row", keep="first", maintain_order=True).sort("row")


def without_copies(exclusions: Exclusions, documents: Mapping[tuple[str, str], Path], folder: Path) -> Exclusions:
    """Also exclude all but the first of the documents with the same text; their places are written below `folder`.

    Args:
        documents: (snapshot, shard) -> its tokenised `documents_path`, of the whole mixture.
    """
    removed = [
        pl.scan_parquet(path / "removed.parquet").select(pl.lit(snapshot).alias("snapshot"), "shard", "row").collect()
        for snapshot, path in exclusions.removed.items()
    ]
    places = [{"file": str(path), "snapshot": place[0], "shard": place[1]} for place, path in documents.items()]
    parameters = {"documents": [place["file"] for place in places], "shards": places}
    view = pl.concat([pl.DataFrame(schema=PLACE_SCHEMA), *removed]).to_arrow()
    with open_database() as database:
        write_batches(database.batches("later_copies", parameters, removed=view), folder / "copies.parquet")
    return replace(exclusions, copies=folder / "copies.parquet")


def without_excluded(
    joint: Sequence[JointShard], exclusions: Exclusions, folder: Path
) -> tuple[list[JointShard], pl.DataFrame]:
    """Joint shards without excluded rows, written below `folder` where there are any; the others as they are.

    Returns:
        The shards, and how much was taken out: `snapshot, reason, n_documents, n_tokens`.

    Raises:
        AutomixerError: an excluded row is not the document that it should be.
    """
    candidates, taken = [], [pl.DataFrame(schema=SUMMARY_SCHEMA)]
    for shard in joint:
        excluded = exclusions.of(shard.snapshot, shard.shard)
        if excluded.is_empty():
            candidates.append(shard)
            continue
        table = pq.read_table(shard.path)
        rows = _verified_rows(excluded, table, shard.path)
        path = folder / shard.snapshot / f"{shard.shard}.parquet"
        write_table(table.filter(pa.array(~np.isin(np.arange(table.num_rows), rows))), path)
        candidates.append(JointShard(shard.snapshot, shard.shard, path))
        tokens = pl.Series("n_tokens", table["n_tokens"].to_numpy()[rows], pl.Int64)
        taken.append(
            excluded.select(
                pl.lit(shard.snapshot).alias("snapshot"), "reason", pl.lit(1, pl.Int64).alias("n_documents"), tokens
            )
        )
    summary = pl.concat(taken).group_by("snapshot", "reason").sum().sort("snapshot", "reason")
    return candidates, summary


def restore_rows(grouped: Path, exclusions: Exclusions) -> None:
    """Renumber the rows of selection files that were made from shards of `without_excluded`."""
    for selection in list_selections(grouped):
        excluded = exclusions.of(selection.snapshot, selection.shard)["row"].to_numpy()
        if not len(excluded):
            continue
        table = pq.read_table(selection.path)
        rows = table["row"].to_numpy()
        # The j-th excluded row e stands before every kept row whose number without the excluded ones is e - j or more.
        whole = rows + np.searchsorted(excluded - np.arange(len(excluded)), rows, side="right")
        column = table.schema.get_field_index("row")
        write_table(table.set_column(column, "row", pa.array(whole, pa.int64())), selection.path)


def _verified_rows(excluded: pl.DataFrame, table: pa.Table, path: Path) -> np.ndarray:
    rows = excluded["row"].to_numpy()
    if rows[-1] >= table.num_rows or table["doc_id"].take(rows).to_pylist() != excluded["doc_id"].to_list():
        raise AutomixerError(
            f"{path} does not hold the documents that are to be excluded in the rows where they should be: "
            "materialise joint_influence and leakage again"
        )
    return rows
