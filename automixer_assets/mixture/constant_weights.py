"""How normalisation constants move when scores move a little: as weighted sums over the reference sample.

Centre and scale of a checkpoint (see `normalisation.py`) are functions of the reference documents' utilities u_j. To
first order  d centre = sum_j c_j d u_j  and  d scale = sum_j s_j d u_j , with weights that only the utilities decide.
The sums are linear in the scores, so they can be pooled like a group's documents are.
"""

from __future__ import annotations

import numpy as np

from automixer_assets.errors import AutomixerError

MIDDLE = 0.2
"""Share of the sample, around its middle in rank, whose mean change stands for that of the middle itself."""


def constant_weights(method: str, utilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (c, s), [n] each, of reference documents with these utilities [n].

    `z`: the mean has weights 1/n, the standard deviation (u - mean) / (n sd). `median_mad`: a quantile moves as the
    documents that lie at it do, here the `MIDDLE` share of documents around it; the median of |u - median| likewise,
    each document by the sign of its deviation and against the median's own move.

    Raises:
        AutomixerError: `rank`, whose value of a document depends on every reference document near it.
    """
    n = len(utilities)
    if method == "z":
        deviations = utilities - utilities.mean()
        return np.full(n, 1 / n), deviations / (n * utilities.std())
    if method == "median_mad":
        centre = _at_the_median(utilities)
        deviations = utilities - np.median(utilities)
        spread = _at_the_median(np.abs(deviations)) * np.sign(deviations)
        return centre, spread - spread.sum() * centre
    raise AutomixerError(
        f"the weights' uncertainty over items is not known under `normalisation: {method}`: "
        "set `uncertainty: documents` for the mixture, or take another normalisation"
    )


def _at_the_median(values: np.ndarray) -> np.ndarray:
    """Equal weights, summing to 1, on the documents around the middle in rank: [n]."""
    n = len(values)
    places = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    near = np.abs(places - (n - 1) / 2) <= max(MIDDLE * n / 2, 0.5)
    return near / near.sum()
