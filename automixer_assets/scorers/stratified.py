"""Stratified over sources: a group per known source, uniform within it.

With `top_share: 1` the paper's weight rule gives every source the same share of the tokens, since all densities are 1;
`weight_rule: size:POWER` gives a share by the power of its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import PARTIAL_GROUPS, GroupOrigin, utility_column
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.scorers import Inputs, Strategy
from automixer_assets.settings.base import Key, Section


class Options(Section):
    """Which sources there are. They are named, so that a source that nobody expected is noticed."""

    column: str = Field(default="dump", description="of the source rows, or `snapshot`")
    sources: dict[Key, list[str]] = Field(
        min_length=1, description="group -> values of the column; * and ? stand for any text; the first match counts"
    )


@dataclass(frozen=True)
class StratifiedScorer:
    """Utility 1 for the group of a document's source; of the other groups it is no candidate."""

    options: Options
    constants: dict[str, Normalisation] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        return tuple(GroupOrigin(name) for name in self.options.sources)

    def utilities(self, shard: TokenShard) -> pa.Table:
        documents = pq.read_table(shard.documents_path, columns=["doc_id", "n_tokens"])
        sources = self._sources(shard, documents)
        for group in self.groups:
            mine = np.array([source == group.name for source in sources], dtype=bool)
            documents = documents.append_column(
                utility_column(group.name), pa.array(np.ones(len(mine)), pa.float64(), mask=~mine)
            )
        return documents.replace_schema_metadata({PARTIAL_GROUPS: b"true"})

    def _sources(self, shard: TokenShard, documents: pa.Table) -> list[str]:
        """Group of every document, [documents]."""
        values = self._values(shard, documents.num_rows)
        named = {value: self._source(value) for value in set(values)}
        for row, value in enumerate(values):
            if named[value] is None:
                known = ", ".join(self.options.sources)
                raise AutomixerError(
                    f"document {documents['doc_id'][row].as_py()!r} of snapshot {shard.snapshot} has the "
                    f"{self.options.column} {value!r}, which is of none of the sources {known}; "
                    "add it to the recipe's `options.sources` ('*' takes all others)"
                )
        return [str(named[value]) for value in values]

    def _values(self, shard: TokenShard, n_documents: int) -> list[str]:
        """The column as text, nulls as the empty text, [documents]."""
        column = self.options.column
        if column == "snapshot":
            return [shard.snapshot] * n_documents
        names = pq.read_schema(shard.documents_path).names
        if column not in names:
            raise AutomixerError(
                f"{shard.documents_path} has no column {column!r} to tell sources by; it has {', '.join(names)}"
            )
        found = pq.read_table(shard.documents_path, columns=[column])[column].to_pylist()
        return ["" if value is None else str(value) for value in found]

    def _source(self, value: str) -> str | None:
        patterns = ((name, pattern) for name, patterns in self.options.sources.items() for pattern in patterns)
        return next((name for name, pattern in patterns if fnmatchcase(value, pattern)), None)


def _scorer(inputs: Inputs) -> StratifiedScorer:
    return StratifiedScorer(Options.model_validate(inputs.recipe.options))


def _origins(options: Mapping[str, Any]) -> tuple[GroupOrigin, ...]:
    return StratifiedScorer(Options.model_validate(options)).groups


STRATEGY = Strategy(_scorer, _origins, Options)
