"""Do two mixtures want the same documents? Their top documents by every utility, side by side (paper, Figure 6).

Meant for recipes that differ in one thing, most of all in the proxy: what would another proxy, seed or query choose?
Documents are those of the snapshots that both have scored, excluded ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import UTILITY_PREFIX
from automixer_assets.mixture.regroup import kept_documents
from automixer_assets.mixture.sql import open_database

JOINT = "joint utility"
SAMPLED_DOCUMENTS = 4_000_000
"""Beyond so many documents a hashed sample of about so many is compared."""
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Agreement:
    """How far two rankings of the same documents agree.

    Attributes:
        first, second: a group of either mixture, or the joint utility.
        top_share: how many of a ranking's documents are its top ones.
        n_first, n_second: the top documents of either; of equal utilities those of lower doc_id are taken.
        n_both: those that are in both.
        overlap: n_both / n_first.
        by_chance: the overlap that is expected of unrelated rankings.
        rank_correlation: Spearman's, over the documents that both rank; None where one of them does not differ.
    """

    first: str
    second: str
    top_share: float
    n_first: int
    n_second: int
    n_both: int
    overlap: float
    by_chance: float
    rank_correlation: float | None


@dataclass(frozen=True)
class Overlap:
    """Two mixtures' rankings compared.

    Attributes:
        snapshots: those that both have.
        n_documents: documents that were compared.
        sampled_share: of those that both have scored; 1 unless there are very many.
        joint: of the joint utilities, at several shares.
        groups: of every pair of groups, at the first mixture's top share.
    """

    first: str
    second: str
    snapshots: tuple[str, ...]
    n_documents: int
    sampled_share: float
    joint: tuple[Agreement, ...]
    groups: tuple[Agreement, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def overlap(first: PinnedInputs, second: PinnedInputs, top_share: float | None = None) -> Overlap:
    """Compare two mixtures.

    Args:
        top_share: by default the first mixture's.

    Raises:
        AutomixerError: they have no snapshot or no document in common, or a pinned input is gone.
    """
    snapshots = sorted(set(first.snapshots) & set(second.snapshots))
    names = [inputs.manifest.reference for inputs in (first, second)]
    if not snapshots:
        raise AutomixerError(
            f"{names[0]} and {names[1]} have no snapshot in common ({', '.join(first.snapshots)}; "
            f"{', '.join(second.snapshots)}): make both of the same snapshots"
        )
    share = first.mixture.top_share if top_share is None else top_share
    sampled, table = _shared_utilities(first, second, snapshots)
    if table.is_empty():
        raise AutomixerError(f"{names[0]} and {names[1]} share no document of {', '.join(snapshots)}")
    rankings = [_rankings(table, side) for side in ("first", "second")]
    shares = sorted({share, *SHARES})
    joint = tuple(agreement(JOINT, JOINT, rankings[0][JOINT], rankings[1][JOINT], each) for each in shares)
    pairs = [(mine, theirs) for mine in rankings[0] for theirs in rankings[1] if JOINT not in (mine, theirs)]
    groups = tuple(agreement(a, b, rankings[0][a], rankings[1][b], share) for a, b in pairs)
    return Overlap(names[0], names[1], tuple(snapshots), table.height, sampled, joint, groups)


def _shared_utilities(
    first: PinnedInputs, second: PinnedInputs, snapshots: Sequence[str]
) -> tuple[float, pl.DataFrame]:
    """The share of documents that is read, and the rows of shared_utilities.sql."""
    parameters: dict[str, Any] = {}
    for side, inputs in (("first", first), ("second", second)):
        places = [
            {"file": str(path), "snapshot": snapshot}
            for snapshot in snapshots
            for path in sorted(inputs.joint(snapshot).glob("shard-*.parquet"))
        ]
        parameters |= {side: [place["file"] for place in places], f"{side}_shards": places}
    n_documents = sum(pq.read_metadata(path).num_rows for path in parameters["first"])
    share = min(1.0, SAMPLED_DOCUMENTS / max(n_documents, 1))
    parameters["highest_draw"] = min(2**64 - 1, int(share * 2**64))
    with open_database() as database:
        return share, pl.DataFrame(database.table("shared_utilities", parameters))


def _rankings(table: pl.DataFrame, side: str) -> dict[str, pl.Series]:
    """Group, or the joint utility, -> utilities; null where a document is no candidate. Groups without any are left
    out."""
    found = {}
    for name in table.columns:
        column = name.removeprefix(f"{side}__")
        if column != name and table[name].is_not_null().any():
            found[JOINT if column == "joint_utility" else column.removeprefix(UTILITY_PREFIX)] = table[name]
    return found


def agreement(first: str, second: str, mine: pl.Series, theirs: pl.Series, top_share: float) -> Agreement:
    """Of two utilities of the same documents, [n] each, in the order of doc_id."""
    top = [_top(utilities, top_share) for utilities in (mine, theirs)]
    n_first, n_second = (int(each.sum()) for each in top)
    n_both = int((top[0] & top[1]).sum())
    both = pl.DataFrame({"a": mine, "b": theirs}).drop_nulls()
    differ = both.height > 1 and both["a"].n_unique() > 1 and both["b"].n_unique() > 1
    correlation = both.select(pl.corr("a", "b", method="spearman")).item() if differ else None
    chance = n_second / len(mine)
    return Agreement(first, second, top_share, n_first, n_second, n_both, n_both / n_first, chance, correlation)


def _top(utilities: pl.Series, share: float) -> np.ndarray:
    """[n] bool: the share's documents of highest utility; rows come by doc_id, so a stable sort settles ties."""
    values = utilities.to_numpy()
    candidates = np.flatnonzero(~np.isnan(values))
    order = candidates[np.argsort(-values[candidates], kind="stable")]
    top = np.zeros(len(values), dtype=bool)
    top[order[: kept_documents(len(candidates), share)]] = True
    return top
