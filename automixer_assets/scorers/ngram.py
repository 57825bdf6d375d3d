"""n-gram sampling: hashed n-gram importance resampling towards the tasks' texts (Xie et al. 2023, DSIR).

Utility is the log importance weight plus Gumbel noise, so that the top share is a sample without replacement in
proportion to the weights.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._corpus import CorpusScorer, corpus_origins, uniform_numbers
from automixer_assets.scorers._lexical import lexical_column
from automixer_assets.settings.base import Section


class Options(Section):
    """`resample: false` takes the documents of highest weight instead of a sample."""

    resample: bool = True
    seed: int = 0


def _scorer(inputs: Inputs) -> CorpusScorer:
    options, folder = Options.model_validate(inputs.recipe.options), inputs.lexical()

    def score(shard: TokenShard, documents: pa.Table) -> np.ndarray:
        weights = lexical_column(folder / f"{shard.name}.parquet", "ngram", documents)
        noise = -np.log(-np.log(uniform_numbers(documents, options.seed)))  # Gumbel
        return weights + noise if options.resample else weights

    return CorpusScorer(score)


STRATEGY = Strategy(_scorer, corpus_origins, Options, lexical=True)
