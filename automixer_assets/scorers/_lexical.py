"""Reading lexical scores: one number per document, and its rank among the frozen reference sample."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from automixer_assets.corpus.lexical import POOLED
from automixer_assets.errors import AutomixerError

Lexical = Literal["ngram", "bm25", "ngram_rate"]
"""`ngram` is the log importance weight, `ngram_rate` the same per n-gram, `bm25` the mean over tasks."""


def lexical_column(path: Path, score: Lexical, documents: pa.Table | None = None) -> np.ndarray:
    """Scores of a lexical_scores file, [documents].

    Raises:
        AutomixerError: the file does not hold these documents, in this order.
    """
    table = pl.read_parquet(path)
    if documents is not None and table["doc_id"].to_list() != documents["doc_id"].to_pylist():
        raise AutomixerError(
            f"{path} does not hold the documents of the tokenised shard in its order; materialise lexical_scores again"
        )
    return table.select(lexical_expression(score, table.columns)).to_series().to_numpy()


def lexical_expression(score: Lexical, columns: list[str]) -> pl.Expr:
    """The score as an expression over the columns of lexical_scores; documents without words rate lowest."""
    if score == "bm25":
        return pl.mean_horizontal([name for name in columns if name.startswith("bm25_")])
    weight = pl.col(f"ngram_{POOLED}")
    if score == "ngram":
        return weight
    return pl.when(pl.col("n_ngrams") > 0).then(weight / pl.col("n_ngrams")).otherwise(-np.inf)
