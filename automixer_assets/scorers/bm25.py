"""BM25 of documents against the tasks' items: the mean over tasks."""

from __future__ import annotations

from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._corpus import CorpusScorer, corpus_origins
from automixer_assets.scorers._lexical import lexical_column


def _scorer(inputs: Inputs) -> CorpusScorer:
    folder = inputs.lexical()
    return CorpusScorer(lambda shard, documents: lexical_column(folder / f"{shard.name}.parquet", "bm25", documents))


STRATEGY = Strategy(_scorer, corpus_origins, lexical=True)
