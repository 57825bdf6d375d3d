"""The paper's scorer: utility of a document for a checkpoint, from checkpoint_influence files that lie beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import influence_utilities
from automixer_assets.mixture.normalisation import Normalisation


@dataclass(frozen=True)
class InfluenceScorer:
    """One group per selected checkpoint.

    Attributes:
        groups: the selected checkpoints, by step.
        folders: group -> snapshot -> its checkpoint_influence folder.
        columns: group -> influence columns whose mean is the group's score.
        constants: group -> its normalisation, or None to leave utilities as they are.
    """

    groups: tuple[GroupOrigin, ...]
    folders: Mapping[str, Mapping[str, Path]]
    columns: Mapping[str, Sequence[str]]
    constants: Mapping[str, Normalisation] | None = None

    def utilities(self, shard: TokenShard) -> pa.Table:
        names = [group.name for group in self.groups]
        lacking = [name for name in names if shard.snapshot not in self.folders.get(name, {})]
        if lacking:
            raise AutomixerError(
                f"snapshot {shard.snapshot} is not scored at {', '.join(lacking)}; "
                "materialise checkpoint_influence for it"
            )
        scores = {name: self.folders[name][shard.snapshot] / f"{shard.name}.parquet" for name in names}
        return influence_utilities(scores, self.columns, self.constants)
