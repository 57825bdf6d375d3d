"""The report in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks.peers.case import Configuration
from benchmarks.peers.measure import Row

HEADER = (
    "| method | CPU time / ours, median [min, max] | memory, MiB | ours, MiB "
    "| relative error | lowest Spearman | remark |\n"
    "|---|---|---|---|---|---|---|"
)


def section(configuration: Configuration, rows: Sequence[Row], tokens: int) -> str:
    """Heading, our own speed, and one line per method."""
    seconds = [ours for row in rows for _, ours in row.pairs]
    speed = f"Ours: {tokens / statistics.median(seconds):,.0f} tokens/s.\n\n" if seconds else ""
    return f"### {configuration}\n{speed}" + "\n".join([HEADER, *map(line, rows)]) + "\n"


def line(row: Row) -> str:
    """A method that was not measured keeps its line, with the reason."""
    name = f"{row.method} ({row.version})" if row.version else row.method
    cells = ["-"] * 5
    if row.agreement is not None:
        memory = [f"{row.memory_mib:.0f}", f"{row.ours_mib:.0f}"]
        agreement = [f"{row.agreement.relative_error:.1e}", f"{row.agreement.spearman:.4f}"]
        cells = [spread(row.ratios), *memory, *agreement]
    return f"| {' | '.join([name, *cells, _cell(row.remark)])} |"


def spread(ratios: Sequence[float]) -> str:
    """median [min, max]"""
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def where_behind(results: Sequence[tuple[Configuration, Sequence[Row]]]) -> str:
    """Every case in which a method took less time than ours in all pairs, or less memory."""
    lines = [
        f"- {configuration}: {row.method} {', '.join(advantages)}"
        for configuration, rows in results
        for row in rows
        if (advantages := _advantages(row))
    ]
    return "### Where ours is behind\n" + ("\n".join(lines) if lines else "Nowhere.") + "\n"


def _advantages(row: Row) -> list[str]:
    found = []
    if row.pairs and max(row.ratios) < 1:
        found.append(f"takes {spread(row.ratios)} of the time")
    if math.isfinite(row.memory_mib) and row.memory_mib < row.ours_mib:
        found.append(f"takes {row.memory_mib:.0f} MiB, ours {row.ours_mib:.0f}")
    return found


def _cell(text: str) -> str:
    """One line that cannot break out of its column."""
    return " ".join(text.split()).replace("|", "\\|")
