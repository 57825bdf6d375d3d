"""The documents of a mixture, one shard at a time: scores, who takes part, and which groups keep them.

Memory is bounded by a shard. Rows are those of the tokenised shard throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import utility_column

TieKey = tuple[str, str, str, int]
"""doc_id, snapshot, shard, row: the order among documents of equal utility (DESIGN: top share)."""


@dataclass(frozen=True)
class MixtureShard:
    """One joint_influence shard of a mixture with everything that is known of its documents."""

    inputs: PinnedInputs
    snapshot: str
    name: str
    groups: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.snapshot}/{self.name}"

    @property
    def joint_path(self) -> Path:
        return self.inputs.joint(self.snapshot) / f"{self.name}.parquet"

    def selection_path(self, group: str) -> Path:
        return self.inputs.grouped / "groups" / group / self.snapshot / f"{self.name}.parquet"

    @cached_property
    def joint(self) -> pl.DataFrame:
        """utility__GROUP ..., joint_utility, joint_influence."""
        columns = [*map(utility_column, self.groups), "joint_utility", "joint_influence"]
        return pl.read_parquet(self.joint_path, columns=columns)

    @cached_property
    def utilities(self) -> np.ndarray:
        """[groups, n]; NaN where a document is no candidate of a group."""
        return np.array([self.joint[utility_column(group)].to_numpy() for group in self.groups])

    @cached_property
    def n_tokens(self) -> np.ndarray:
        return pl.read_parquet(self.joint_path, columns=["n_tokens"]).to_series().to_numpy()

    @cached_property
    def is_candidate(self) -> np.ndarray:
        """[n] bool: not excluded."""
        candidates = np.ones(pl.scan_parquet(self.joint_path).select(pl.len()).collect().item(), dtype=bool)
        candidates[self.inputs.exclusions.of(self.snapshot, self.name)["row"].to_numpy()] = False
        return candidates

    def selection(self, group: str) -> pl.DataFrame:
        return pl.read_parquet(self.selection_path(group))

    def kept(self, group: str) -> np.ndarray:
        """[n] bool: the documents of the group's selection file.

        Raises:
            AutomixerError: the file selects a row that the shard does not have.
        """
        kept, rows = np.zeros(len(self.is_candidate), dtype=bool), self.selection(group)["row"].to_numpy()
        if len(rows) and (rows.min() < 0 or rows.max() >= len(kept)):
            raise AutomixerError(
                f"{self.selection_path(group)} selects row {rows.max()}, but the shard has {len(kept)} rows"
            )
        kept[rows] = True
        return kept

    @cached_property
    def doc_ids(self) -> pl.Series:
        return pl.read_parquet(self.joint_path, columns=["doc_id"]).to_series()

    def is_ranked(self, group: str) -> np.ndarray:
        """[n] bool: not excluded, and a candidate of that group."""
        return self.is_candidate & ~np.isnan(self.utility(group))

    def utility(self, group: str) -> np.ndarray:
        """[n], read alone; NaN where the document is no candidate of the group."""
        return pl.read_parquet(self.joint_path, columns=[utility_column(group)]).to_series().to_numpy()


@dataclass(frozen=True)
class MixtureShards:
    """Every shard of a mixture's snapshots, in name order. What one has read is forgotten when the next one comes."""

    inputs: PinnedInputs

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        return [
            (snapshot, path.stem)
            for snapshot in self.inputs.snapshots
            for path in sorted(self.inputs.joint(snapshot).glob("shard-*.parquet"))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[MixtureShard]:
        groups = tuple(group.name for group in self.inputs.manifest.groups)
        return (MixtureShard(self.inputs, snapshot, name, groups) for snapshot, name in self.places)


@dataclass(frozen=True)
class Cut:
    """Where a group ends: above the threshold all stay, and of those at it the ones up to `last` (all without)."""

    threshold: float
    last: TieKey | None = None

    def keeps(self, shard: MixtureShard, utility: np.ndarray) -> np.ndarray:
        """[n] bool, of a shard's documents with these utilities, [n]."""
        kept = utility >= self.threshold
        if self.last is not None:
            tied = np.flatnonzero(utility == self.threshold)
            kept[tied] = self._within(shard, tied, self.last)
        return kept

    @staticmethod
    def _within(shard: MixtureShard, tied: np.ndarray, last: TieKey) -> np.ndarray:
        """Which of these rows come up to the last one that is kept."""
        ids, place = shard.doc_ids.gather(tied), (shard.snapshot, shard.name)
        earlier = np.full(len(tied), place < last[1:3]) | ((place == last[1:3]) & (tied <= last[3]))
        return (ids < last[0]).to_numpy() | ((ids == last[0]).to_numpy() & earlier)


@dataclass(frozen=True)
class Ties:
    """The documents of a group whose utility is the threshold: the last one kept, and the first one left out."""

    last_kept: TieKey | None = None
    first_left: TieKey | None = None

    def merged(self, other: Ties) -> Ties:
        kept = [key for key in (self.last_kept, other.last_kept) if key is not None]
        left = [key for key in (self.first_left, other.first_left) if key is not None]
        return Ties(max(kept, default=None), min(left, default=None))

    def cut(self, threshold: float) -> Cut:
        return Cut(threshold, None if self.first_left is None else self.last_kept)


def ties_of(shard: MixtureShard, group: str, threshold: float) -> Ties:
    """The ends of one shard's tied documents."""
    tied = np.flatnonzero((shard.utility(group) == threshold) & shard.is_candidate)
    if not len(tied):
        return Ties()
    kept = shard.kept(group)[tied]
    return Ties(_end(shard, tied[kept], last=True), _end(shard, tied[~kept], last=False))


def _end(shard: MixtureShard, rows: np.ndarray, *, last: bool) -> TieKey | None:
    if not len(rows):
        return None
    ids = shard.doc_ids.gather(rows)
    doc_id = ids.max() if last else ids.min()
    same = rows[(ids == doc_id).to_numpy()]
    return str(doc_id), shard.snapshot, shard.name, int(same.max() if last else same.min())


def group_cuts(inputs: PinnedInputs, shards: MixtureShards) -> dict[str, Cut]:
    """Each group's cut, as its selection files show it."""
    found = {}
    for group in inputs.manifest.groups:
        ties = Ties()
        for shard in shards:
            ties = ties.merged(ties_of(shard, group.name, group.threshold))
        found[group.name] = ties.cut(group.threshold)
    return found


def utility_at_rank(read: Callable[[], Iterable[np.ndarray]], rank: int) -> float:
    """The utility at a rank (1 is the highest) over arrays that are read four times: exact, in memory of one array.

    A radix selection: 16 bits of the order-preserving integers a pass, from the highest.
    """
    prefix = 0
    for shift in (48, 32, 16, 0):
        counts = np.zeros(2**16, dtype=np.int64)
        for utilities in read():
            keys = _ordered_bits(utilities)
            if shift < 48:
                keys = keys[keys >> np.uint64(shift + 16) == prefix]
            counts += np.bincount(((keys >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64), minlength=2**16)
        from_above = np.cumsum(counts[::-1])
        position = int(np.searchsorted(from_above, rank))
        rank -= int(from_above[position - 1]) if position else 0
        prefix = prefix << 16 | (2**16 - 1 - position)
    return _from_bits(prefix)


def _ordered_bits(utilities: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the doubles; both zeros are one."""
    bits = (utilities.astype(np.float64) + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def _from_bits(key: int) -> float:
    bits = key ^ (1 << 63) if key >> 63 else ~key & (2**64 - 1)
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])
