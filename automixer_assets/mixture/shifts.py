"""How a new version of a mixture differs from the last one, and which snapshot moved it.

A threshold is measured in documents, not in utility: by the share of the candidates that lie between the old one and
the new one. That share is a sum over snapshots, n_s / n (share of s above the old threshold - top share), so that each
has its exact part in it. A weight's dependence on a snapshot is what it is without that snapshot's documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from automixer_assets.mixture.groups import MEMBERSHIPS, utility_column
from automixer_assets.mixture.manifest import Manifest


@dataclass(frozen=True)
class Shift:
    """A number of a group in both versions; `moved` is how far by the measure that has a bound.

    `parts` holds each snapshot's part in it, as far as that is known.
    """

    group: str
    what: str
    before: float
    after: float
    moved: float
    parts: dict[str, float] = field(default_factory=dict)

    def cause(self, among: Sequence[str]) -> str | None:
        """The snapshot of `among` with the largest part in the direction of the shift."""
        parts = {name: self.parts[name] for name in among if self.parts.get(name, 0.0) * self.moved > 0}
        return max(parts, key=lambda name: (abs(parts[name]), name)) if parts else None


def threshold_shifts(
    before: Manifest, after: Manifest, joint: Mapping[str, Sequence[Path]], top_share: float
) -> list[Shift]:
    """Of the groups in both versions; `joint` holds the new version's joint influence shards by snapshot."""
    old = {group.name: group.threshold for group in before.groups}
    return [
        _threshold_shift(group.name, old[group.name], group.threshold, joint, top_share)
        for group in after.groups
        if group.name in old
    ]


def weight_shifts(before: Manifest, after: Manifest, grouped: Path) -> list[Shift]:
    """Of the groups in both versions; `grouped` is the new version's grouped_shards folder."""
    old = {group.name: group.weight for group in before.groups}
    memberships = pl.read_parquet(grouped / MEMBERSHIPS)
    names = [group.name for group in after.groups]
    whole = density_weights(memberships, names)
    without = {
        snapshot: density_weights(memberships.filter(pl.col("snapshot") != snapshot), names)
        for snapshot in sorted(set(memberships["snapshot"]))
    }
    return [
        Shift(
            group=group.name,
            what="weight",
            before=old[group.name],
            after=group.weight,
            moved=group.weight - old[group.name],
            parts={} if whole is None else _parts(whole, without, group.name),
        )
        for group in after.groups
        if group.name in old
    ]


def density_weights(memberships: pl.DataFrame, groups: Sequence[str]) -> dict[str, float] | None:
    """Normalised densities of a memberships table; None where one is not positive or a group has no token."""
    densities: dict[str, float] = {}
    for group in groups:
        members = memberships.filter(pl.col(f"in__{group}"))
        n_tokens = int(members["n_tokens"].sum())
        density = float(members["utility_tokens"].sum()) / n_tokens if n_tokens else 0.0
        if density <= 0:
            return None
        densities[group] = density
    total = sum(densities.values())
    return {group: density / total for group, density in densities.items()}


def _parts(whole: Mapping[str, float], without: Mapping[str, dict[str, float] | None], group: str) -> dict[str, float]:
    return {name: whole[group] - weights[group] for name, weights in without.items() if weights is not None}


def _counted(files: Sequence[Path], utility: pl.Expr, threshold: float) -> tuple[int, int]:
    """How many utilities there are, and how many of them reach the threshold; a file at a time."""
    counts = [utility.count(), (utility >= threshold).sum().alias("above")]
    found = [pl.scan_parquet(path).select(counts).collect(engine="streaming") for path in files]
    n, above = pl.concat(found).sum().row(0)
    return int(n), int(above)


def _threshold_shift(
    group: str, before: float, after: float, joint: Mapping[str, Sequence[Path]], top_share: float
) -> Shift:
    counts: dict[str, tuple[int, int]] = {}
    for snapshot, files in joint.items():
        counts[snapshot] = _counted(files, pl.col(utility_column(group)), before)
    total = sum(n for n, _ in counts.values())
    parts = {name: (above - top_share * n) / total for name, (n, above) in counts.items()}
    return Shift(group, "threshold", before, after, sum(parts.values()), parts)
