"""What a group is: where it comes from, and the files that select its documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError

UTILITY_PREFIX = "utility__"
PARTIAL_GROUPS = b"automixer.partial_groups"
"""Parquet metadata of scores in which a null utility means that the document is no candidate of that group.

Without it a null is an error, as NaN always is.
"""
MEMBERSHIPS = "memberships.parquet"
"""Sums per shard and set of groups, in a grouped_shards folder (group_memberships.sql)."""


@dataclass(frozen=True)
class GroupOrigin:
    """Why a group exists: the checkpoint whose utility ranks it, if any, and its share in the joint utility."""

    name: str
    checkpoint: str | None = None
    step: int = 0
    tasks: tuple[str, ...] = ()
    alpha: float = 1.0


@dataclass(frozen=True)
class Selection:
    """One selection file of a grouped_shards folder: documents of one shard that one group keeps."""

    group: str
    snapshot: str
    shard: str
    path: Path


@dataclass(frozen=True)
class GroupSummary:
    """A row of `groups.parquet`."""

    name: str
    threshold: float
    n_documents: int
    n_tokens: int
    n_candidates: int
    candidate_tokens: int


def has_partial_groups(schema: pa.Schema) -> bool:
    """Whether documents may be no candidates of some groups."""
    return PARTIAL_GROUPS in (schema.metadata or {})


def utility_column(group: str) -> str:
    return UTILITY_PREFIX + group


def read_group_summaries(grouped: Path) -> list[GroupSummary]:
    """Rows of `groups.parquet` of a grouped_shards folder, in the recipe's order of groups."""
    path = grouped / "groups.parquet"
    if not path.exists():
        raise AutomixerError(f"{path} is missing: {grouped} is not a grouped_shards folder; materialise grouped_shards")
    return [GroupSummary(name=row.pop("group"), **row) for row in pq.read_table(path).to_pylist()]


def list_selections(grouped: Path) -> list[Selection]:
    """Every selection file of a grouped_shards folder: groups in the recipe's order, then snapshot and shard."""
    return [
        Selection(summary.name, path.parent.name, path.stem, path)
        for summary in read_group_summaries(grouped)
        for path in sorted((grouped / "groups" / summary.name).glob("*/*.parquet"))
    ]


def selection_parameters(selections: Sequence[Selection]) -> dict[str, Any]:
    """`$files` and `$selections` of the statements that read selection files."""
    places = [
        {
            "file": str(selection.path),
            "group": selection.group,
            "snapshot": selection.snapshot,
            "shard": selection.shard,
        }
        for selection in selections
    ]
    return {"files": [place["file"] for place in places], "selections": places}
