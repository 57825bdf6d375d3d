"""What `automixer gc` found, for a person at a terminal."""

from __future__ import annotations

from collections import Counter

import polars as pl
from rich.console import Group, RenderableType
from rich.text import Text

from automixer_assets.gc import Retention, Survey
from automixer_assets.summary import frame_table

SHOWN = 40


def survey_panel(found: Survey, retention: Retention, *, deleted: bool) -> RenderableType:
    """Largest first, then what stays and what to do next."""
    largest = sorted(found.removable, key=lambda each: (-each.size, each.uri))
    rows = [
        {
            "artefact": each.uri[: each.uri.index("/") + 13],
            "was": _names(each.names),
            "size": readable_size(each.size),
            "work, s": each.seconds,
            "why": each.why,
        }
        for each in largest[:SHOWN]
    ]
    unfinished = sum(found.unfinished.values())
    notes = [
        f"{'removed' if deleted else 'removable'}: {len(found.removable)} artefacts, {readable_size(found.size)}"
        + (f" (the largest {SHOWN} are shown; --json lists all)" if len(largest) > SHOWN else ""),
        f"kept: {len(found.kept)} artefacts, {readable_size(sum(found.kept.values()))}",
    ]
    if found.unfinished:
        fate = "" if retention.keep_unfinished else ", included unless a run is at work on them"
        notes.append(f"unfinished passes: {len(found.unfinished)}, {readable_size(unfinished)} (--unfinished){fate}")
    if found.trash:
        notes.append(f"left by an interrupted removal: {readable_size(found.trash)}")
    if found.removable and not deleted:
        notes.append("nothing was removed: run again with --delete")
    note = Text("\n".join(notes))
    return Group(frame_table(pl.DataFrame(rows), "What no mixture pins"), note) if rows else note


def readable_size(size: float) -> str:
    """Bytes as a person reads them: 1,536 is `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _names(names: list[str]) -> str:
    kinds = Counter(name.partition("[")[0] for name in names)
    if len(names) <= 2:
        return ", ".join(names) or "–"
    return ", ".join(f"{kind} ({count} partitions)" for kind, count in kinds.items())
