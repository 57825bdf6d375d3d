"""Sampling weights: token-weighted influence density per group, normalised (paper, section 5 and Appendix B).

Everything is in utility, so a density above zero means that the group's documents lower the validation loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import MEMBERSHIPS, read_group_summaries
from automixer_assets.mixture.sql import open_database

NonpositiveDensity = Literal["error", "softmax"]


@dataclass(frozen=True)
class GroupTable:
    """What a mixer knows of a group."""

    name: str
    n_documents: int
    n_tokens: int
    density: float
    """rho_g: mean joint utility per token."""
    density_scaled: float
    """Mean per token of Appendix B's total influence, min-max scaled over all kept documents."""
    token_product: float
    """Appendix B's P_g = density_scaled * n_tokens."""


def group_tables(grouped: Path) -> list[GroupTable]:
    """Sums over the selected documents of each group of a grouped_shards folder, in the recipe's order of groups.

    Raises:
        AutomixerError: a group without tokens, whose density is undefined.
    """
    parameters = {"file": str(grouped / MEMBERSHIPS)}
    names = [summary.name for summary in read_group_summaries(grouped)]
    with open_database() as database:
        densities = {row["group"]: row for row in database.table("group_density", parameters).to_pylist()}
        products = {row["group"]: row for row in database.table("appendix_b_products", parameters).to_pylist()}
    empty = [name for name in names if not densities[name]["n_tokens"]]
    if empty:
        raise AutomixerError(
            f"groups {', '.join(empty)} keep no tokens, so their density is undefined; raise `top_share` or drop them"
        )
    return [
        GroupTable(
            name=name,
            n_documents=densities[name]["n_documents"],
            n_tokens=densities[name]["n_tokens"],
            density=densities[name]["density"],
            density_scaled=products[name]["density_scaled"],
            token_product=products[name]["token_product"],
        )
        for name in names
    ]


def equation_weights(groups: Sequence[GroupTable], nonpositive: NonpositiveDensity) -> list[float]:
    """w_g = rho_g / sum rho (paper, section 5).

    The paper puts w in (0, 1), which holds only where every rho is positive. Otherwise `error` refuses, and `softmax`
    gives softmax(rho / spread), spread being the densities' standard deviation: positive, ordered as the densities,
    and blind to their unit. A silent clip at zero would drop groups unseen. A group without others has all the weight.
    """
    if len(groups) == 1:
        return [1.0]
    densities = np.array([group.density for group in groups])
    if (densities > 0).all():
        return (densities / densities.sum()).tolist()
    if nonpositive == "error":
        bad = ", ".join(f"{group.name} ({group.density:.4g})" for group in groups if group.density <= 0)
        raise AutomixerError(
            f"groups {bad} have a density of utility at or below zero, so rho / sum rho is no weight; "
            "use `profile: robust` or set `nonpositive_density: softmax`"
        )
    spread = float(densities.std())
    powers = np.exp((densities - densities.max()) / spread) if spread > 0 else np.ones_like(densities)
    return (powers / powers.sum()).tolist()


def appendix_b_weights(groups: Sequence[GroupTable]) -> list[float]:
    """w_g = P_g / sum P, not divided by T_g (paper, Appendix B, which does not say that it is)."""
    products = np.array([group.token_product for group in groups])
    if products.sum() <= 0:
        raise AutomixerError(
            f"Appendix B's products of groups {', '.join(group.name for group in groups)} are all zero: "
            "every document above the lowest total influence has no tokens; use a larger `top_share`"
        )
    return (products / products.sum()).tolist()


def size_weights(groups: Sequence[GroupTable], power: float) -> list[float]:
    """w_g = T_g^power / sum T^power; of sizes relative to the largest, which no power overflows."""
    sizes = np.array([group.n_tokens for group in groups], dtype=np.float64)
    powers = (sizes / sizes.max()) ** power
    return (powers / powers.sum()).tolist()


def size_power(weight_rule: str) -> float | None:
    """The power in `size:POWER`; None for a rule that goes by influence."""
    name, _, power = weight_rule.partition(":")
    return float(power) if name == "size" else None


def weight_contrast(weights: Sequence[float]) -> float | None:
    """Largest over smallest weight: 1 is no reweighting at all. None where the smallest is 0."""
    return max(weights) / min(weights) if min(weights) > 0 else None
