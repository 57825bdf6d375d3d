"""The paper's scorer: utility of a document for a checkpoint, from checkpoint_influence files that lie beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import influence_utilities
from automixer_assets.mixture.normalisation import Method, Normalisation, fit_normalisation
from automixer_assets.scorers import Inputs, Strategy


@dataclass(frozen=True)
class InfluenceScorer:
    """One group per selected checkpoint; the mean of some columns, lower is better.

    Attributes:
        groups: the selected checkpoints, by step.
        folders: group -> snapshot -> its checkpoint_influence folder.
        columns: group -> influence columns whose mean is the group's score.
        constants: group -> its normalisation; none to leave utilities as they are.
    """

    groups: tuple[GroupOrigin, ...]
    folders: Mapping[str, Mapping[str, Path]]
    columns: Mapping[str, Sequence[str]]
    constants: dict[str, Normalisation] = field(default_factory=dict)

    def utilities(self, shard: TokenShard) -> pa.Table:
        names = [group.name for group in self.groups]
        lacking = [name for name in names if shard.snapshot not in self.folders.get(name, {})]
        if lacking:
            raise AutomixerError(
                f"snapshot {shard.snapshot} is not scored at {', '.join(lacking)}; "
                "materialise checkpoint_influence for it"
            )
        scores = {name: self.folders[name][shard.snapshot] / f"{shard.name}.parquet" for name in names}
        return influence_utilities(scores, self.columns, self.constants or None)


def checkpoint_scorer(
    inputs: Inputs, columns: Mapping[str, Sequence[str]], method: Method | Literal["none"]
) -> InfluenceScorer:
    """Utilities from columns of the checkpoint_influence files, scaled by constants of the reference sample."""
    origins = inputs.checkpoints()
    constants = {
        origin.name: fit_normalisation(method, inputs.reference_influence(origin), columns[origin.name])
        for origin in origins
        if method != "none"
    }
    folders = {origin.name: {inputs.snapshot: inputs.influence(origin)} for origin in origins}
    return InfluenceScorer(origins, folders, columns, constants)


def task_columns(inputs: Inputs) -> dict[str, list[str]]:
    """Group -> the influence columns of its tasks."""
    return {origin.name: inputs.columns(origin) for origin in inputs.checkpoints()}


def _scorer(inputs: Inputs) -> InfluenceScorer:
    return checkpoint_scorer(inputs, task_columns(inputs), inputs.recipe.normalisation)


STRATEGY = Strategy(_scorer, linear_in_items=True)
