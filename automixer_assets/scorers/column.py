"""A utility that somebody else computed: a column of a Parquet file, looked up by document id.

A quality classifier's score, another method's, or the truth where it is known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import Field

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._corpus import CorpusScorer, corpus_origins
from automixer_assets.settings.base import Section


class Options(Section):
    """Where the utility lies; higher is better."""

    file: str = Field(description="Parquet; relative to AUTOMIXER_STATE")
    column: str = Field(description="a number or a boolean")
    id_column: str = "doc_id"


def _scorer(inputs: Inputs) -> CorpusScorer:
    options = Options.model_validate(inputs.recipe.options)
    path = inputs.file(options.file)

    def score(shard: TokenShard, documents: pa.Table) -> np.ndarray:
        return _look_up(path, options, documents["doc_id"].to_pylist())

    return CorpusScorer(score)


def _look_up(path: Path, options: Options, doc_ids: list[str]) -> np.ndarray:
    names = pl.scan_parquet(path).collect_schema().names()
    if missing := sorted({options.id_column, options.column} - set(names)):
        raise AutomixerError(f"{path} has no column {missing[0]!r}; it has {', '.join(names)}")
    scores = pl.scan_parquet(path).select(
        doc_id=pl.col(options.id_column).cast(pl.String), utility=pl.col(options.column).cast(pl.Float64)
    )
    wanted = scores.filter(pl.col("doc_id").is_in(doc_ids)).unique("doc_id", keep="first", maintain_order=True)
    found = pl.LazyFrame({"doc_id": doc_ids}).join(wanted, on="doc_id", how="left", maintain_order="left").collect()
    lacking = found.filter(pl.col("utility").is_null())["doc_id"]
    if len(lacking):
        raise AutomixerError(
            f"{path} has no {options.column} for {len(lacking)} documents, the first of them {lacking[0]!r}; "
            "score all documents, or leave their snapshot out"
        )
    return found["utility"].to_numpy()


STRATEGY = Strategy(_scorer, corpus_origins, Options, files=lambda options: [options["file"]])
