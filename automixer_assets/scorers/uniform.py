"""The uniform strategy: every document is worth the same."""

from __future__ import annotations

import numpy as np

from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._corpus import CorpusScorer, corpus_origins


def _scorer(inputs: Inputs) -> CorpusScorer:
    return CorpusScorer(lambda shard, documents: np.ones(documents.num_rows))


STRATEGY = Strategy(_scorer, corpus_origins)
