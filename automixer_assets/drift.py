"""How far a distribution moved: population stability index and shifts of quantiles, for numbers and for categories.

Both compare a current sample with a previous one. The index sums (p - q) ln(p / q) over bins; under no drift it is
about chi-squared with bins - 1 degrees of freedom, times 1 / n + 1 / m, so that small samples are not taken for drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

N_BINS = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
QUARTILES = (0.25, 0.5, 0.75)
MINIMUM_DOCUMENTS = 50
"""Below that nothing is said about drift."""
SIGNIFICANCE = 0.999
SMOOTHING = 0.5
"""Documents added to every bin, so that an empty one does not make the index infinite."""
MAX_CATEGORIES = 20
OTHER, MISSING = "(other)", "(missing)"


@dataclass(frozen=True)
class Movement:
    """How a column moved. `quantiles` holds (q, previous, current); `shift` is in interquartile ranges of the previous.

    `noise` is what the index may reach by chance. `shift` is None for categories, and without a previous spread.
    """

    column: str
    n_previous: int
    n_current: int
    index: float
    noise: float
    shift: float | None
    quantiles: tuple[tuple[float, float, float], ...] = ()

    @property
    def judged(self) -> bool:
        return min(self.n_previous, self.n_current) >= MINIMUM_DOCUMENTS

    def beyond(self, index: float, shift: float) -> list[str]:
        """What moved further than these bounds, in words; nothing where the samples are too small."""
        if not self.judged or self.index <= self.noise:
            return []
        said = [f"stability index {self.index:.2f}"] if self.index > index else []
        if self.shift is not None and abs(self.shift) > shift:
            said.append(f"quartiles by {self.shift:+.2f} interquartile ranges")
        return said


def number_movement(column: str, previous: pl.Series, current: pl.Series) -> Movement | None:
    """Of numbers; nulls, NaN and infinities count as missing. None where neither sample has the column at all."""
    old, new = _finite(previous), _finite(current)
    if old.is_empty() and new.is_empty():
        return None
    edges = _edges(old if not old.is_empty() else new)
    counts = [[*_binned(part, edges), whole.len() - part.len()] for part, whole in ((old, previous), (new, current))]
    index, noise = stability(counts[0], counts[1])
    shift, quantiles = _shift(old, new)
    return Movement(column, previous.len(), current.len(), index, noise, shift, quantiles)


def category_movement(column: str, previous: pl.Series, current: pl.Series) -> Movement | None:
    """Of names: the most frequent ones of both samples together, all others as one. None where neither has any."""
    if previous.null_count() == previous.len() and current.null_count() == current.len():
        return None
    both = pl.concat([previous.cast(pl.String), current.cast(pl.String)]).drop_nulls()
    ranked = both.value_counts(name="n").sort(["n", both.name], descending=[True, False])
    kept = ranked[both.name].head(MAX_CATEGORIES).to_list()
    counts = [_category_counts(sample.cast(pl.String), kept) for sample in (previous, current)]
    index, noise = stability(counts[0], counts[1])
    return Movement(column, previous.len(), current.len(), index, noise, None)


def stability(previous: Sequence[int], current: Sequence[int]) -> tuple[float, float]:
    """Population stability index of two histograms over the same bins, and what it may reach by chance.

    Bins that are empty in both do not count.
    """
    from scipy.stats import chi2

    bins = [(old, new) for old, new in zip(previous, current, strict=True) if old or new]
    totals = [sum(each) + SMOOTHING * len(bins) for each in zip(*bins, strict=True)] if bins else [0.0, 0.0]
    if len(bins) < 2 or not sum(previous) or not sum(current):
        return 0.0, 0.0
    shares = [((old + SMOOTHING) / totals[0], (new + SMOOTHING) / totals[1]) for old, new in bins]
    index = math.fsum((new - old) * math.log(new / old) for old, new in shares)
    chance = float(chi2.ppf(SIGNIFICANCE, len(bins) - 1)) * (1 / sum(previous) + 1 / sum(current))
    return index, chance


def _finite(values: pl.Series) -> pl.Series:
    values = values.cast(pl.Float64)
    return values.filter(values.is_finite().fill_null(False))


def _edges(values: pl.Series) -> list[float]:
    """Inner bounds of bins with about equally many values; ties make fewer bins."""
    found = (values.quantile(i / N_BINS, "lower") for i in range(1, N_BINS))
    return sorted({float(edge) for edge in found if edge is not None})


def _binned(values: pl.Series, edges: Sequence[float]) -> list[int]:
    """How many values lie in (-inf, e1], (e1, e2], ..., (en, inf)."""
    places = pl.Series(edges, dtype=pl.Float64).search_sorted(values, side="left")
    counts = dict(places.value_counts().iter_rows()) if values.len() else {}
    return [counts.get(place, 0) for place in range(len(edges) + 1)]


def _shift(old: pl.Series, new: pl.Series) -> tuple[float | None, tuple[tuple[float, float, float], ...]]:
    """The quartile that moved furthest, in interquartile ranges of the old sample, and all quantiles.

    Utilities have heavy tails, whose quantiles move by many such ranges from one sample to the next.
    """
    if old.is_empty() or new.is_empty():
        return None, ()
    quantiles = tuple((q, _quantile(old, q), _quantile(new, q)) for q in QUANTILES)
    spread = _quantile(old, 0.75) - _quantile(old, 0.25)
    if spread == 0:
        return None, quantiles
    return max(((after - before) / spread for q, before, after in quantiles if q in QUARTILES), key=abs), quantiles


def _quantile(values: pl.Series, q: float) -> float:
    found = values.quantile(q, "lower")
    assert found is not None
    return float(found)


def _category_counts(values: pl.Series, kept: Sequence[str]) -> list[int]:
    counts = dict(values.drop_nulls().value_counts().iter_rows())
    other = sum(count for name, count in counts.items() if name not in kept)
    return [*(counts.get(name, 0) for name in kept), other, values.null_count()]
