"""Perplexity sampling: a document's mean loss takes influence's place, lower is better, the rest as it was (paper,
section 6, baselines)."""

from __future__ import annotations

from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers.influence import InfluenceScorer, checkpoint_scorer


def _scorer(inputs: Inputs) -> InfluenceScorer:
    columns = {origin.name: ["loss"] for origin in inputs.checkpoints()}
    return checkpoint_scorer(inputs, columns, inputs.recipe.normalisation)


STRATEGY = Strategy(_scorer)
