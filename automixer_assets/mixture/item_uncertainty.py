"""How sure are the weights, given the validation items at hand? Densities as other items would have given them.

With the groups, their documents and the curvature held fixed, a group's density is a mean over items. At checkpoint k
let a_ki be what item i carries of the group's mean utility per token (see `influence/item_scores.py`), so that

    U_k = mean over the tasks of k of the mean over their items of a_ki ,   rho = sum_k alpha_k (U_k - c_k) / s_k .

Centre c_k and scale s_k are the checkpoint's normalisation constants, 0 and 1 without one; other items move them too,
by amounts that are means over items as well (to first order, see `constant_weights.py`). A replicate draws as many
items per task as there are, with replacement and the same draw at every checkpoint, and

    rho* - rho = sum_k alpha_k (dU_k - dc_k - y_k ds_k) / (s_k + ds_k) ,   y_k = (U_k - c_k) / s_k .

The a_ki come from a sample of each group's documents, y_k and rho from all of them: what is sampled enters the
replicates' spread only, never where they are centred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.errors import AutomixerError

GROUP_PREFIX, HALF_PREFIX = "group__", "half__"
ITEM_SEED = 1
"""Another than the documents' own: the two are drawn independently."""
CONTRIBUTIONS, CHECKPOINTS, DENSITIES = "contributions.parquet", "checkpoints.parquet", "densities.parquet"


@dataclass(frozen=True)
class CheckpointItems:
    """What the items of a checkpoint's tasks carry there.

    Attributes:
        alpha, scale: the blending factor, and the normalisation constant (1 without one).
        densities: mean normalised utility per token of all documents of each group, [groups].
        tasks: task -> [items, groups + 2]: of the groups' utility, of the centre, of the scale.
    """

    checkpoint: str
    alpha: float
    scale: float
    densities: np.ndarray
    tasks: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ItemContributions:
    """Every selected checkpoint's, groups in the recipe's order."""

    groups: tuple[str, ...]
    checkpoints: tuple[CheckpointItems, ...]

    @property
    def n_items(self) -> dict[str, int]:
        """Task -> number of items, in name order."""
        found = {task: len(table) for each in self.checkpoints for task, table in each.tasks.items()}
        return dict(sorted(found.items()))


def density_shifts(contributions: ItemContributions, replicates: int, seed: int = ITEM_SEED) -> np.ndarray:
    """By how much each group's density differs where other items had been drawn, [replicates, groups].

    NaN in a replicate that would leave a checkpoint without a positive scale.
    """
    random = np.random.default_rng(seed)
    drawn = {  # task -> [replicates, items]: share in the replicate minus share in the mean
        task: random.multinomial(n, np.full(n, 1 / n), size=replicates) / n - 1 / n
        for task, n in contributions.n_items.items()
    }
    shifts = np.zeros((replicates, len(contributions.groups)))
    for each in contributions.checkpoints:
        moved = np.mean([drawn[task] @ table for task, table in each.tasks.items()], axis=0)
        utility, centre, scale = moved[:, :-2], moved[:, -2:-1], moved[:, -1:]  # [replicates, groups], [.., 1], [.., 1]
        rescaled = np.where(each.scale + scale > 0, each.scale + scale, np.nan)
        shifts += each.alpha * (utility - centre - each.densities * scale) / rescaled
    return shifts


def read_contributions(folder: Path, half: int | None = None) -> ItemContributions:
    """What `write_contributions` wrote: of the whole sample of documents, or of its first (0) or second (1) half.

    Raises:
        AutomixerError: a group whose sample has no half of its own, being a single document.
    """
    constants = pl.read_parquet(folder / CHECKPOINTS)
    densities, items = pl.read_parquet(folder / DENSITIES), pl.read_parquet(folder / CONTRIBUTIONS)
    groups = tuple(name.removeprefix(GROUP_PREFIX) for name in items.columns if name.startswith(GROUP_PREFIX))
    first_shares = dict(densities.select("group", "first_half_share").iter_rows())
    values = [_column(group, half, first_shares[group]) for group in groups]
    table = items.select("checkpoint", "task", *values, "centre", "scale")
    return ItemContributions(groups, tuple(_checkpoint(row, groups, densities, table) for row in constants.to_dicts()))


def _column(group: str, half: int | None, first_share: float) -> pl.Expr:
    whole, first = pl.col(GROUP_PREFIX + group), pl.col(HALF_PREFIX + group)
    if half is None:
        return whole
    if not 0 < first_share < 1:
        raise AutomixerError(f"the sample of group {group} has no two halves: its tokens are one document's")
    return (first / first_share if half == 0 else (whole - first) / (1 - first_share)).alias(GROUP_PREFIX + group)


def _checkpoint(
    row: Mapping[str, object], groups: Sequence[str], densities: pl.DataFrame, items: pl.DataFrame
) -> CheckpointItems:
    checkpoint = str(row["checkpoint"])
    own = dict(densities.filter(pl.col("checkpoint") == checkpoint).select("group", "density").iter_rows())
    tasks = {
        str(task): table.drop("checkpoint", "task").to_numpy().astype(np.float64)
        for (task,), table in items.filter(pl.col("checkpoint") == checkpoint).group_by("task", maintain_order=True)
    }
    alpha, scale = float(str(row["alpha"])), float(str(row["scale"]))
    return CheckpointItems(checkpoint, alpha, scale, np.array([own[group] for group in groups]), tasks)
