"""A blend of influence and words: per checkpoint the ranks of both among the frozen reference sample, averaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.mixture.groups import GroupOrigin, utility_column
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.scorers._lexical import lexical_column
from automixer_assets.scorers.influence import InfluenceScorer, checkpoint_scorer, task_columns
from automixer_assets.settings.base import Section


class Options(Section):
    """What is blended, and how much of it."""

    lexical: Literal["ngram_rate", "bm25"] = "bm25"
    share: float = Field(default=0.5, ge=0, le=1, description="of the lexical rank; the rest is influence's")


@dataclass(frozen=True)
class BlendScorer:
    """`(1 - share) x rank of influence + share x rank of the lexical score`, both in [0, 1].

    Attributes:
        knots: the reference sample's lexical scores, ascending, [r].
    """

    influence: InfluenceScorer
    options: Options
    lexical: Path
    knots: np.ndarray

    @property
    def constants(self) -> dict[str, Normalisation]:
        return self.influence.constants

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        return self.influence.groups

    def utilities(self, shard: TokenShard) -> pa.Table:
        table = self.influence.utilities(shard)
        scores = lexical_column(self.lexical / f"{shard.name}.parquet", self.options.lexical, table)
        ranks = np.searchsorted(self.knots, scores, side="right") / len(self.knots)
        for group in self.groups:
            name = utility_column(group.name)
            blended = (1 - self.options.share) * table[name].to_numpy() + self.options.share * ranks
            table = table.set_column(table.column_names.index(name), name, pa.array(blended))
        return table


def _scorer(inputs: Inputs) -> BlendScorer:
    options = Options.model_validate(inputs.recipe.options)
    influence = checkpoint_scorer(inputs, task_columns(inputs), "rank")
    knots = np.sort(lexical_column(inputs.reference_lexical(), options.lexical))
    return BlendScorer(influence, options, inputs.lexical(), knots)


STRATEGY = Strategy(_scorer, options=Options, lexical=True)
