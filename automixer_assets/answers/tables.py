"""The answers for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from rich.console import RenderableType
from rich.text import Text

from automixer_assets.answers.findings import Verification
from automixer_assets.summary import frame_table

DIGEST = 12


def short_reference(reference: str) -> str:
    """NAME@ and the first digits of the digest."""
    name, _, digest = reference.rpartition("@")
    return f"{name}@{digest[:DIGEST]}"


def verification_tables(verification: Verification) -> Sequence[RenderableType]:
    """What was compared; every number that differs; what was taken as it is."""
    rows = [
        {
            "check": check.name,
            "question": check.question,
            "compared": check.n_compared,
            "different": check.n_differences,
            "note": check.note,
        }
        for check in verification.checks
    ]
    taken = "not recomputed: " + "; ".join(verification.not_recomputed)
    title = f"Mixture {short_reference(verification.reference)}"
    parts: list[RenderableType] = [frame_table(pl.DataFrame(rows), title, taken)]
    if verification.differences:
        parts.append(frame_table(_differences(verification), "What differs"))
    return [*parts, _verdict(verification)]


def _differences(verification: Verification) -> pl.DataFrame:
    rows = [
        {"where": each.where, "stored": _cell(each.stored), "recomputed": _cell(each.recomputed)}
        for each in verification.differences
    ]
    return pl.DataFrame(rows, schema={"where": pl.String, "stored": pl.String, "recomputed": pl.String})


def _verdict(verification: Verification) -> Text:
    compared = sum(check.n_compared for check in verification.checks)
    if verification.passed:
        return Text(f"all {compared:,} numbers and digests agree", style="bold green")
    different = sum(check.n_differences for check in verification.checks)
    failed = ", ".join(check.name for check in verification.checks if not check.passed)
    return Text(f"{different:,} of {compared:,} differ, in: {failed}", style="bold red")


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value)
