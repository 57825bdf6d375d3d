"""Exposure ledger: how often each content is expected to be read under a manifest (DESIGN: duplicates).

Overlap between groups stays, as in the paper, and copies of a text share a content hash, so both show up here. What a
sample leaves out of its group is listed too, as read by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from automixer_assets.corpus.shards import TokenizedSnapshot, TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import Selection, selection_parameters
from automixer_assets.mixture.parquet import write_batches, write_table
from automixer_assets.mixture.sql import open_database

EDGES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MOST_READ = 20


@dataclass(frozen=True)
class ExposureBin:
    """Contents with lower <= expected_exposures < upper."""

    lower: float
    upper: float | None
    n_contents: int
    n_tokens: int


@dataclass(frozen=True)
class ExposureSummary:
    """The ledger in brief."""

    n_contents: int
    max_exposures: float
    mean_exposures: float
    n_unread: int
    n_in_several_groups: int
    n_with_copies: int
    n_in_several_snapshots: int
    histogram: tuple[ExposureBin, ...]


def write_exposure(
    *,
    selections: Sequence[Selection],
    snapshots: Mapping[str, TokenizedSnapshot],
    passes: Mapping[str, float],
    out: Path,
    unread: Sequence[Selection] = (),
) -> ExposureSummary:
    """Write `exposure.parquet`, a row per content hash, and summarise it.

    Args:
        selections: files of the documents that are read, of all groups.
        snapshots: snapshot -> its tokenised folder, which knows the content hashes.
        passes: group -> how often its documents are read (`passes` of a manifest's group).
        out: the file to write.
        unread: files of the documents that the groups' samples leave out.
    """
    parameters = {
        **selection_parameters([*selections, *unread]),
        **document_parameters([*selections, *unread], snapshots),
        "unread": [str(each.path) for each in unread],
        "passes": [{"group": group, "passes": float(value)} for group, value in passes.items()],
    }
    with open_database() as database:
        write_batches(database.batches("exposure", parameters), out)
    return summarise_exposure(out)


def summarise_exposure(exposure: Path) -> ExposureSummary:
    """Largest and mean exposure, contents in several groups, and a histogram."""
    with open_database() as database:
        row = database.table("exposure_summary", {"file": str(exposure)}).to_pylist()[0]
        bins = database.table("exposure_histogram", {"file": str(exposure), "edges": list(EDGES)}).to_pylist()
    return ExposureSummary(**row, histogram=tuple(ExposureBin(**each) for each in bins))


def write_most_read(
    exposure: Path, selections: Sequence[Selection], snapshots: Mapping[str, TokenizedSnapshot], out: Path
) -> None:
    """Write `most_read.parquet`: the contents of highest exposure, and where the first of their documents lies."""
    parameters = {"file": str(exposure), "limit": MOST_READ, **document_parameters(selections, snapshots)}
    with open_database() as database:
        write_table(database.table("most_read", parameters), out)


def document_parameters(
    selections: Sequence[Selection], snapshots: Mapping[str, TokenizedSnapshot]
) -> dict[str, list[str] | list[dict[str, str]]]:
    """`$documents` and `$shards` of the statements that read the tokenised shards behind selection files."""
    shards = [token_shard(snapshots, *place) for place in sorted({(each.snapshot, each.shard) for each in selections})]
    places = [{"file": str(each.documents_path), "snapshot": each.snapshot, "shard": each.name} for each in shards]
    return {"documents": [place["file"] for place in places], "shards": places}


def token_shard(snapshots: Mapping[str, TokenizedSnapshot], snapshot: str, shard: str) -> TokenShard:
    """The tokenised shard that a selection points into."""
    if snapshot not in snapshots or shard not in snapshots[snapshot].shard_names:
        raise AutomixerError(
            f"the selection points into {snapshot}/{shard}, which is not among the tokenised snapshots "
            f"({', '.join(sorted(snapshots)) or 'none given'}); materialise tokenized_corpus for it"
        )
    tokenized = snapshots[snapshot]
    return TokenShard(snapshot, shard, tokenized.folder, tokenized.dtype)
