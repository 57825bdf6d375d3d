"""Random choice: a number per document from its id; with `top_share: 0.5` half of the documents, whichever."""

from __future__ import annotations

from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._corpus import CorpusScorer, corpus_origins, uniform_numbers
from automixer_assets.settings.base import Section


class Options(Section):
    """Another seed, another half."""

    seed: int = 0


def _scorer(inputs: Inputs) -> CorpusScorer:
    seed = Options.model_validate(inputs.recipe.options).seed
    return CorpusScorer(lambda shard, documents: uniform_numbers(documents, seed))


STRATEGY = Strategy(_scorer, corpus_origins, Options)
