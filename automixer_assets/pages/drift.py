"""What drift checks show: a table of movements, and the two distributions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.drift import Movement
from automixer_assets.lake_asset import Metadata
from automixer_assets.mixture.shifts import Shift

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def show_movements(movements: Sequence[Movement], joint: tuple[pl.Series, pl.Series], compared: str) -> Metadata:
    """`joint` holds the joint utilities of the previous snapshots and of the new one."""
    rows = [
        {
            "column": each.column,
            "stability index": each.index,
            "by chance up to": each.noise,
            "largest shift (IQR)": each.shift,
            **{f"p{q * 100:g}": f"{before:.4g} → {after:.4g}" for q, before, after in each.quantiles},
        }
        for each in movements
    ]
    return {
        "compared with": compared,
        "movements": metadata.table(pl.DataFrame(rows, infer_schema_length=None)),
        "joint utility, previous and new": metadata.plot(lambda axes: _draw(axes, *joint)),
    }


def show_shifts(shifts: Sequence[Shift], compared: str) -> Metadata:
    """Every threshold and weight in both versions, with each snapshot's part."""
    rows = [
        {
            "group": each.group,
            "what": each.what,
            "before": each.before,
            "after": each.after,
            "moved": each.moved,
            "parts of the snapshots": ", ".join(f"{name} {part:+.3f}" for name, part in sorted(each.parts.items())),
        }
        for each in shifts
    ]
    return {"compared with": compared, "shifts": metadata.table(pl.DataFrame(rows))}


def _draw(axes: Axes, previous: pl.Series, current: pl.Series) -> None:
    axes.set_xlabel("joint utility")
    axes.set_ylabel("share of documents")
    both = pl.concat([previous, current])
    low, high = (metadata.number(both.quantile(q, "nearest")) for q in (0.005, 0.995))
    if not low < high:
        return
    for values, label, color in ((previous, "previous", "#9aa5b1"), (current, "new", metadata.PALETTE[1])):
        weights = [1 / max(1, values.len())] * values.len()
        axes.hist(
            values.to_numpy(), bins=60, range=(low, high), weights=weights, histtype="step", color=color, label=label
        )
    axes.legend(fontsize=8)
