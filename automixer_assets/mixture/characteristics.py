"""Why these documents: what sets each group apart from the corpus that it was taken from.

Domains, languages, sources, quality and length are counted over all documents. Terms are counted over a sample of the
corpus, the documents that come first in the order of a hash of their ids, so that memory does not grow with the corpus;
a document counts a term once, so that no single long document makes a term characteristic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.corpus.words import normalised_words
from automixer_assets.mixture.groups import Selection, selection_parameters
from automixer_assets.mixture.parquet import write_batches, write_table
from automixer_assets.mixture.sql import Database, open_database

KINDS = ("term", "domain", "language", "source")
SAMPLED_DOCUMENTS = 20_000
SAMPLED_TOKENS = 2_048
"""Terms are those of at most so many documents, and of the first so many tokens of each."""
DOCUMENTS_PER_BATCH = 500
PRIOR_DOCUMENTS = 500
"""Weight of the prior of the log-odds: as if so many more documents like the corpus had been seen in each part."""
TOP_VALUES = 20
N_BEST, N_ANY = 2, 3
EXCERPT_CHARACTERS = 400
COUNTS_SCHEMA = {
    "group": pl.String,
    "kind": pl.String,
    "value": pl.String,
    "n_in_group": pl.Int64,
    "n_in_corpus": pl.Int64,
    "group_total": pl.Int64,
    "corpus_total": pl.Int64,
}

Decode = Callable[[list[list[int]]], list[str]]
"""Texts of token ids."""


@dataclass(frozen=True)
class GroupedCorpus:
    """A mixture's groups and the corpus that they were taken from.

    Attributes:
        selections: the selection files of all groups.
        snapshots: the mixture's snapshots, tokenised.
        leakage: snapshot -> its leakage folder.
    """

    selections: Sequence[Selection]
    snapshots: Mapping[str, TokenizedSnapshot]
    leakage: Mapping[str, Path]

    @property
    def documents(self) -> dict[str, Any]:
        """`$documents` and `$shards` of the statements that read tokenised shards."""
        shards = [shard for snapshot in self.snapshots.values() for shard in snapshot.shards]
        places = [{"file": str(each.documents_path), "snapshot": each.snapshot, "shard": each.name} for each in shards]
        return {"documents": [place["file"] for place in places], "shards": places}

    @property
    def flags(self) -> dict[str, Any]:
        """`$flags` and `$flag_shards`."""
        shards = [shard for snapshot in self.snapshots.values() for shard in snapshot.shards]
        places = [
            {
                "file": str(self.leakage[each.snapshot] / f"{each.name}.parquet"),
                "snapshot": each.snapshot,
                "shard": each.name,
            }
            for each in shards
        ]
        return {"flags": [place["file"] for place in places], "flag_shards": places}

    def texts(self, places: pl.DataFrame, decode: Decode, limit: int) -> Iterator[str]:
        """Texts of documents (`snapshot, shard, row`), in that order, of their first `limit` tokens."""
        shards = {(s.snapshot, s.name): s for snapshot in self.snapshots.values() for s in snapshot.shards}
        rows = places.select("snapshot", "shard", "row").iter_rows()
        while batch := list(islice(rows, DOCUMENTS_PER_BATCH)):
            ids = [shards[snapshot, shard].document_tokens(row)[:-1][:limit] for snapshot, shard, row in batch]
            yield from decode([each.tolist() for each in ids])


def write_characteristics(corpus: GroupedCorpus, decode: Decode, out: Path) -> None:
    """Write `characteristics.parquet`, `quality.parquet`, `examples.parquet` and `leaked.parquet` (docs/tables.md)."""
    members = selection_parameters(corpus.selections)
    both = {**members, **corpus.documents}
    with open_database() as database, TemporaryDirectory(prefix="automixer-counts-") as scratch:
        values, terms = Path(scratch) / "values.parquet", Path(scratch) / "terms.parquet"
        write_batches(database.batches("document_values", both), values)
        term_counts(corpus, database, decode).write_parquet(terms)
        chosen = {"files": [str(values), str(terms)], "prior": PRIOR_DOCUMENTS, "top": TOP_VALUES}
        write_table(database.table("characteristic_values", chosen), out / "characteristics.parquet")
        numbers = pl.DataFrame(database.table("document_numbers", both))
        write_table(against_corpus(numbers).to_arrow(), out / "quality.parquet")
        write_table(examples(corpus, database, decode).to_arrow(), out / "examples.parquet")
        write_table(database.table("leaked_by_source", {**both, **corpus.flags}), out / "leaked.parquet")


def term_counts(corpus: GroupedCorpus, database: Database, decode: Decode) -> pl.DataFrame:
    """Documents of the sample that have each term, in each group and in all: COUNTS_SCHEMA."""
    sample = pl.DataFrame(database.table("sampled_documents", {**corpus.documents, "n": SAMPLED_DOCUMENTS}))
    sample = sample.with_row_index("document").cast({"document": pl.Int64})
    members = pl.DataFrame(
        database.table("sampled_members", selection_parameters(corpus.selections), sample=sample.to_arrow())
    )
    terms = _distinct_terms(corpus.texts(sample, decode, SAMPLED_TOKENS))
    in_corpus = terms.group_by("value").agg(pl.len().cast(pl.Int64).alias("n_in_corpus"))
    in_groups = (
        terms.join(members, on="document").group_by("group", "value").agg(pl.len().cast(pl.Int64).alias("n_in_group"))
    )
    counts = in_groups.join(in_corpus, on="value").with_columns(
        kind=pl.lit("term"),
        group_total=pl.col("n_in_group").sum().over("group"),
        corpus_total=pl.lit(terms.height, pl.Int64),
    )
    return counts.select(list(COUNTS_SCHEMA)).sort("group", "value")


def _distinct_terms(texts: Iterator[str]) -> pl.DataFrame:
    """The different words of each text: `document` (its number), `value`."""
    parts, first = [pl.DataFrame(schema={"document": pl.Int64, "value": pl.String})], 0
    while batch := list(islice(texts, DOCUMENTS_PER_BATCH)):
        words = normalised_words(pl.Series(batch, dtype=pl.String)).list.unique()
        numbers = pl.int_range(first, first + len(batch), dtype=pl.Int64, eager=True)
        table = pl.DataFrame({"document": numbers, "value": words})
        parts.append(table.explode("value").drop_nulls())
        first += len(batch)
    return pl.concat(parts)


def against_corpus(numbers: pl.DataFrame) -> pl.DataFrame:
    """Each group's mean beside the corpus's, and by how many of its standard deviations they differ.

    Args:
        numbers: rows of document_numbers.sql.
    """
    whole = numbers.filter(pl.col("group").is_null()).select(
        "column_name", pl.col("mean").alias("corpus_mean"), pl.col("sd").alias("corpus_sd")
    )
    difference = pl.when(pl.col("corpus_sd") > 0).then((pl.col("mean") - pl.col("corpus_mean")) / pl.col("corpus_sd"))
    groups = numbers.filter(pl.col("group").is_not_null()).join(whole, on="column_name")
    return groups.with_columns(difference.alias("difference_in_sd")).sort("group", "column_name")


def examples(corpus: GroupedCorpus, database: Database, decode: Decode) -> pl.DataFrame:
    """Per group the documents of highest utility and some by hash, with the beginning of their texts."""
    found = []
    for group in dict.fromkeys(selection.group for selection in corpus.selections):
        own = [selection for selection in corpus.selections if selection.group == group]
        parameters = {**selection_parameters(own), "n_best": N_BEST, "n_any": N_ANY}
        table = pl.DataFrame(database.table("group_examples", parameters))
        excerpts = [text[:EXCERPT_CHARACTERS] for text in corpus.texts(table, decode, EXCERPT_CHARACTERS)]
        found.append(table.select(pl.lit(group).alias("group"), pl.all(), pl.Series("text", excerpts, pl.String)))
    return pl.concat(found)
