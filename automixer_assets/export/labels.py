"""Names of groups that a trainer accepts."""

from __future__ import annotations

from collections.abc import Sequence

from automixer_assets.export.format import Format


def group_labels(names: Sequence[str], format: Format) -> dict[str, str]:
    """The label of each group: its own name where the trainer accepts it, else one that is as close and distinct."""
    labels = {name: name for name in names if format.label_pattern.fullmatch(name)}
    for name in names:
        if name not in labels:
            labels[name] = _distinct(_repaired(name, format), set(labels.values()))
    return {name: labels[name] for name in names}


def _repaired(name: str, format: Format) -> str:
    label = format.label_repair.sub("-", name)
    return label if format.label_pattern.fullmatch(label) else f"group{'' if label.startswith('-') else '-'}{label}"


def _distinct(label: str, taken: set[str]) -> str:
    number, candidate = 1, label
    while candidate in taken:
        number += 1
        candidate = f"{label}-{number}"
    return candidate
