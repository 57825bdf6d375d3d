"""What a mixture's weights would have been: other documents, other validation items, another selection of checkpoints.

Each part is resampled alone, so that a person sees which one the doubt comes from; documents and items also together,
which is the manifest's own interval. The groups, and the documents in them, are those at hand throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.mixers import Mixer
from automixer_assets.mixture.item_uncertainty import ItemContributions, density_shifts
from automixer_assets.mixture.uncertainty import (
    LEVEL,
    REPLICATES,
    BucketSums,
    WeightInterval,
    replicate_weights,
    weight_intervals,
)
from automixer_assets.mixture.weights import GroupTable

ROUNDING = 1e-12
"""Weights that vary by less do not vary."""
DOCUMENTS, ITEMS, BOTH, SELECTION = "documents", "items", "documents and items", "selection"
INTERVALS_SCHEMA = {
    "resampled": pl.String,
    "group": pl.String,
    "weight": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_undefined": pl.Int64,
    "covered_share": pl.Float64,
    "reliability": pl.Float64,
}


@dataclass(frozen=True)
class Halves:
    """Density shifts by the same draws of items, from either half of the sampled documents.

    Attributes:
        first, second: [replicates, groups].
        sampled_share: [groups] documents in the sample / documents of the group.
    """

    first: np.ndarray
    second: np.ndarray
    sampled_share: np.ndarray


@dataclass(frozen=True)
class RedrawnWeights:
    """Weights of the selections that other items would have made.

    Attributes:
        weights: [selections, groups], 0 for a group whose checkpoint is not selected; NaN where there are none.
        shares: [selections] how often each was drawn, of those whose checkpoints are all scored.
        unscored: checkpoint -> share of all draws that select it although the mixture has no scores there.
    """

    weights: np.ndarray
    shares: np.ndarray
    unscored: dict[str, float]

    @property
    def covered_share(self) -> float:
        """Share of the draws that weights are known for."""
        return float(self.shares.sum())


def document_and_item_intervals(
    sums: BucketSums, mixer: Mixer, weights: Sequence[float], items: ItemContributions | None, halves: Halves | None
) -> pl.DataFrame:
    """INTERVALS_SCHEMA for `documents`, and for `items` and both where contributions are given."""
    rows = _rows(DOCUMENTS, weights, weight_intervals(sums, mixer))
    if items is not None:
        shifts = density_shifts(items, REPLICATES)
        rows += _rows(
            ITEMS,
            weights,
            weight_intervals(sums, mixer, shifts=shifts, documents=False),
            reliabilities(sums, mixer, halves) if halves is not None else None,
        )
        rows += _rows(BOTH, weights, weight_intervals(sums, mixer, shifts=shifts))
    return pl.DataFrame(rows, schema=INTERVALS_SCHEMA)


def reliabilities(sums: BucketSums, mixer: Mixer, halves: Halves) -> list[float | None]:
    """Per group, which share of the weight's variance over items is the items' own, and not the sampled documents'.

    The correlation r, over the same draws of items, between the weights that either half of the sample gives, stepped
    up to the whole sample by 2 r / (1 + r) (Spearman and Brown); of the rest, what a sample of all documents would have
    as well is no error of sampling. At 1 a larger sample would change nothing. None where it cannot be told.
    """
    shifts = (halves.first, halves.second)
    first, second = (replicate_weights(sums, mixer, shifts=half, documents=False) for half in shifts)
    found: list[float | None] = []
    for group, sampled in enumerate(halves.sampled_share):
        pair = np.stack([first[:, group], second[:, group]])
        usable = pair[:, np.isfinite(pair).all(axis=0)]
        if usable.shape[1] < 2 or usable.std(axis=1).min() <= ROUNDING:
            found.append(None)
            continue
        r = max(0.0, float(np.corrcoef(usable)[0, 1]))
        own = 2 * r / (1 + r)
        found.append(own + (1 - own) * float(sampled))
    return found


def redrawn_weights(
    redrawn: pl.DataFrame, densities: pl.DataFrame, tables: Sequence[GroupTable], mixer: Mixer
) -> RedrawnWeights:
    """Weights under every redrawn selection whose checkpoints are groups of the mixture.

    Alphas are the redrawn ones; a checkpoint's utility keeps the tasks that it has in the recipe as it stands.

    Args:
        redrawn: `redrawn.parquet` of selected_checkpoints.
        densities: `group, checkpoint, density` (`group_densities`).
        tables: the groups as they are.
    """
    names = [table.name for table in tables]
    by_pair = {(group, checkpoint): value for group, checkpoint, value in densities.iter_rows()}
    at_checkpoint = np.array([[by_pair[group, other] for other in names] for group in names])  # [groups, checkpoints]
    weights, shares = [], []
    for _, rows in redrawn.group_by("selection", maintain_order=True):
        alphas = dict(rows.select("checkpoint", "alpha").iter_rows())
        if set(alphas) <= set(names):
            weights.append(_weights_under(alphas, at_checkpoint, tables, mixer))
            shares.append(float(rows["share"][0]))
    missing = redrawn.filter(pl.col("checkpoint").is_in(names).not_()).group_by("checkpoint").agg(pl.col("share").sum())
    unscored = dict(missing.sort("share", "checkpoint", descending=[True, False]).iter_rows())
    return RedrawnWeights(np.array(weights).reshape(-1, len(names)), np.array(shares), unscored)


def _weights_under(
    alphas: dict[str, float], at_checkpoint: np.ndarray, tables: Sequence[GroupTable], mixer: Mixer
) -> list[float]:
    blended = at_checkpoint @ np.array([alphas.get(table.name, 0.0) for table in tables])  # [groups]
    kept = [
        replace(table, density=float(density))
        for table, density in zip(tables, blended, strict=True)
        if table.name in alphas
    ]
    try:
        weights = mixer.weigh(kept).weights
    except AutomixerError:
        return [float("nan")] * len(tables)
    named = {table.name: weight for table, weight in zip(kept, weights, strict=True)}
    return [named.get(table.name, 0.0) for table in tables]


def selection_intervals(redrawn: RedrawnWeights, groups: Sequence[str], weights: Sequence[float]) -> pl.DataFrame:
    """INTERVALS_SCHEMA for `selection`, over the draws that weights are known for; null where there are none."""
    undefined = np.isnan(redrawn.weights).any(axis=1) if len(redrawn.weights) else np.zeros(0, dtype=bool)
    tail = (1 - LEVEL) / 2
    intervals = []
    for place, group in enumerate(groups):
        if undefined.any() or not len(redrawn.weights):
            intervals.append(WeightInterval(group, None, None, int(undefined.sum())))
            continue
        low, high = np.quantile(
            redrawn.weights[:, place], [tail, 1 - tail], weights=redrawn.shares, method="inverted_cdf"
        )
        intervals.append(WeightInterval(group, float(low), float(high), 0))
    rows = _rows(SELECTION, weights, intervals)
    return pl.DataFrame([{**row, "covered_share": redrawn.covered_share} for row in rows], schema=INTERVALS_SCHEMA)


def _rows(
    resampled: str,
    weights: Sequence[float],
    intervals: Sequence[WeightInterval],
    reliability: Sequence[float | None] | None = None,
) -> list[dict[str, object]]:
    return [
        {
            "resampled": resampled,
            **vars(each),
            "weight": weights[place],
            "covered_share": 1.0,
            "reliability": None if reliability is None else reliability[place],
        }
        for place, each in enumerate(intervals)
    ]
