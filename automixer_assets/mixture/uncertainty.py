"""How sure are the weights? Bootstrap intervals over the documents of the groups, and over the validation items.

Documents are resampled in buckets: every document falls into one of `BUCKETS` by its number, the same one in every
group, and a replicate draws buckets with replacement. One pass over the selection files gives each bucket's sums, and
replicates cost nothing but sums of sums, however large the corpus is. The groups themselves are held fixed: the
interval says what other documents of the same kind would have given, not what another threshold would.

Items are resampled by themselves (see `item_uncertainty.py`): what other items would have shifted the densities by is
added to a replicate's densities. Documents and items are drawn independently; that the shift itself would differ among
the drawn documents is of second order and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.mixers import Mixer
from automixer_assets.mixture.groups import Selection
from automixer_assets.mixture.sql import open_database
from automixer_assets.mixture.weights import GroupTable

BUCKETS = 512
REPLICATES = 1000
LEVEL = 0.95
SHARD_STRIDE = 1_000_003
"""Between the first document numbers of two shards; any number will do that spreads small shards over the buckets."""


@dataclass(frozen=True)
class BucketSums:
    """Sums over the documents of each group and bucket, [groups, buckets] each, and the range of total influence."""

    groups: tuple[str, ...]
    n_documents: np.ndarray
    n_tokens: np.ndarray
    utility_tokens: np.ndarray
    total_tokens: np.ndarray
    lowest_total: float
    highest_total: float

    def tables(self, counts: np.ndarray) -> list[GroupTable]:
        """Group tables of a corpus in which bucket b occurs counts[b] times, [buckets]; ones give the corpus itself."""
        n_documents, n_tokens = self.n_documents @ counts, self.n_tokens @ counts  # [groups]
        if not n_tokens.all():
            empty = self.groups[int(np.argmin(n_tokens))]
            raise AutomixerError(f"group {empty} has no tokens in this sample, so its density is undefined")
        density = self.utility_tokens @ counts / n_tokens
        spread = self.highest_total - self.lowest_total
        mean_total = self.total_tokens @ counts / n_tokens
        scaled = (mean_total - self.lowest_total) / spread if spread else np.ones_like(density)
        return [
            GroupTable(name, int(n_documents[i]), int(n_tokens[i]), float(density[i]), float(scaled[i]), float(product))
            for i, (name, product) in enumerate(zip(self.groups, scaled * n_tokens, strict=True))
        ]


@dataclass(frozen=True)
class WeightInterval:
    """Percentile interval of one group's weight; None where some replicates have no weights at all."""

    group: str
    low: float | None
    high: float | None
    n_undefined: int
    """Replicates for which the mixer gives no weights, for example because a density is not positive."""


def bucket_sums(selections: Sequence[Selection], buckets: int = BUCKETS) -> BucketSums:
    """One pass over the selection files, a shard at a time; groups in the order of `selections`."""
    names = tuple(dict.fromkeys(selection.group for selection in selections))
    sums = {column: np.zeros((len(names), buckets)) for column in ("n_documents", "n_tokens", "utility_tokens")}
    sums["total_tokens"] = np.zeros((len(names), buckets))
    lowest, highest, first_row = np.inf, -np.inf, 0
    with open_database() as database:
        for _, files in groupby(sorted(selections, key=_place), key=_place):
            parameters = _parameters(list(files), first_row, buckets)
            part = database.table("density_buckets", parameters).to_pydict()
            rows = [names.index(group) for group in part["group"]]
            for column, total in sums.items():
                total[rows, part["bucket"]] += part[column]
            lowest, highest = min([lowest, *part["lowest_total"]]), max([highest, *part["highest_total"]])
            first_row += SHARD_STRIDE
    return BucketSums(names, **sums, lowest_total=float(lowest), highest_total=float(highest))


def weight_intervals(
    sums: BucketSums,
    mixer: Mixer,
    *,
    shifts: np.ndarray | None = None,
    documents: bool = True,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[WeightInterval]:
    """Percentile intervals of the mixer's weights over resamples, in the order of the groups.

    Args:
        shifts: what drawing other items adds to the densities, a row per replicate, [replicates, groups] (see
            `density_shifts`); without them items are not resampled.
        documents: whether documents are resampled; if not, every replicate has the corpus itself.
    """
    weights = replicate_weights(sums, mixer, shifts=shifts, documents=documents, replicates=replicates, seed=seed)
    n_undefined = int(np.isnan(weights).any(axis=1).sum())
    if n_undefined:
        return [WeightInterval(group, None, None, n_undefined) for group in sums.groups]
    tail = (1 - level) / 2
    low, high = np.quantile(weights, [tail, 1 - tail], axis=0)  # [groups] each
    return [WeightInterval(group, float(low[i]), float(high[i]), 0) for i, group in enumerate(sums.groups)]


def replicate_weights(
    sums: BucketSums,
    mixer: Mixer,
    *,
    shifts: np.ndarray | None = None,
    documents: bool = True,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> np.ndarray:
    """Weights of every replicate, [replicates, groups]; NaN where the mixer gives none."""
    n_buckets, random = sums.n_tokens.shape[1], np.random.default_rng(seed)
    moved = np.zeros((replicates, len(sums.groups))) if shifts is None else shifts
    size = len(moved)
    even = np.full(n_buckets, 1 / n_buckets)
    draws = random.multinomial(n_buckets, even, size=size) if documents else np.ones((size, n_buckets))
    return np.array([_weigh(sums, counts, shift, mixer) for counts, shift in zip(draws, moved, strict=True)])


def _weigh(sums: BucketSums, counts: np.ndarray, shift: np.ndarray, mixer: Mixer) -> tuple[float, ...]:
    undefined = (float("nan"),) * len(sums.groups)
    if not np.isfinite(shift).all():
        return undefined
    try:
        tables = sums.tables(counts)
        shifted = [
            replace(table, density=table.density + float(move)) for table, move in zip(tables, shift, strict=True)
        ]
        return mixer.weigh(shifted).weights
    except AutomixerError:
        return undefined


def _place(selection: Selection) -> tuple[str, str]:
    return selection.snapshot, selection.shard


def _parameters(files: Sequence[Selection], first_row: int, buckets: int) -> Mapping[str, Any]:
    return {
        "files": [str(selection.path) for selection in files],
        "groups": [{"file": str(selection.path), "group": selection.group} for selection in files],
        "first_row": first_row,
        "buckets": buckets,
    }
