"""The answers for a person at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from rich.console import RenderableType
from rich.text import Text

from automixer_assets.answers.diff import GroupChange, MixtureDiff, Moves
from automixer_assets.answers.explain import Explanation, GroupAnswer
from automixer_assets.answers.findings import Verification
from automixer_assets.answers.overlap import Agreement, Overlap
from automixer_assets.summary import frame_table

DIGEST = 12
WORTH_SAYING = 0.1
"""A part of a change is named when it is at least this share of the largest one."""


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


def diff_tables(found: MixtureDiff) -> Sequence[RenderableType]:
    """Why each weight moved, in a sentence a group and in a table; then what came and went."""
    if found.equal:
        return [Text(f"equal: both are {short_reference(found.before)}", style="bold green")]
    title = f"{short_reference(found.before)} → {short_reference(found.after)}"
    sentences = [Text(sentence(group)) for group in found.groups]
    notes = [Text(f"note: {note}", style="italic") for note in found.notes]
    parts: list[RenderableType] = [Text(f"\n{title}", style="bold"), *sentences, *notes]
    remainder = max((abs(group.remainder) for group in found.groups), default=0.0)
    caption = f"parts are Shapley values over {', '.join(found.groups[0].parts)}; they leave {remainder:.0e}"
    parts.append(frame_table(_parts(found), "Weights, and what moved them", caption))
    parts.append(frame_table(_moves(found), "Documents and tokens of the groups"))
    if found.settings:
        rows = [{"setting": name, "A": str(a), "B": str(b)} for name, (a, b) in found.settings.items()]
        parts.append(frame_table(pl.DataFrame(rows), "Settings that differ"))
    return parts


def sentence(group: GroupChange) -> str:
    """Why one group's weight moved, with the size of every part that matters, and who came and went."""
    before, after = group.before, group.after
    if before is None or after is None:
        happened = "is new, with" if before is None else "is gone; it had"
        return f"{group.name} {happened} weight {abs(group.change):.4f}"
    largest = max(map(abs, group.parts.values()))
    told = sorted((item for item in group.parts.items() if item[1]), key=lambda item: -abs(item[1]))
    reasons = [f"{factor} {part:+.4f}" for factor, part in told if abs(part) >= WORTH_SAYING * largest]
    moved = f"{group.name}: weight {before.weight:.4f} → {after.weight:.4f} ({group.change:+.4f})"
    words = [f"{moved}: {', '.join(reasons)}" if reasons else f"{moved}: nothing moved it"]
    came, went = group.moves.entered_new, group.moves.left_gone
    if came.n_documents:
        words.append(f"{came.n_documents:,} new documents ({_snapshots(came)})")
    if went.n_documents:
        words.append(f"{went.n_documents:,} documents gone ({_snapshots(went)})")
    if before.threshold != after.threshold:
        known_in, known_out = group.moves.entered_known.n_documents, group.moves.left_known.n_documents
        words.append(
            f"threshold {before.threshold:.5g} → {after.threshold:.5g}: of the others {known_out:,} left, "
            f"{known_in:,} entered"
        )
    words.append(f"density {before.density:.5g} → {after.density:.5g}")
    return "; ".join(words)


def _snapshots(moves: Moves) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in moves.by_snapshot.items())


def _parts(found: MixtureDiff) -> pl.DataFrame:
    rows = []
    for group in found.groups:
        a, b = group.before, group.after
        weights = {"A": a.weight if a else None, "B": b.weight if b else None, "change": f"{group.change:+.4f}"}
        parts = {factor: f"{part:+.4f}" for factor, part in group.parts.items()}
        exposures = " → ".join(f"{side.exposure:.4g}" if side else "–" for side in (a, b))
        rows.append({"group": group.name, **weights, **parts, "exposure": exposures})
    return pl.DataFrame(rows)


def _moves(found: MixtureDiff) -> pl.DataFrame:
    rows = []
    for group in found.groups:
        kinds = {
            "entered, new": group.moves.entered_new,
            "entered, known": group.moves.entered_known,
            "left, gone": group.moves.left_gone,
            "left, still there": group.moves.left_known,
            "stayed": group.moves.stayed,
        }
        cells = {name: f"{moves.n_documents:,} ({moves.n_tokens:,} tokens)" for name, moves in kinds.items()}
        rows.append({"group": group.name, **cells})
    return pl.DataFrame(rows)


def explanation_tables(found: Explanation) -> Sequence[RenderableType]:
    """The document, its groups, and its score on every task."""
    place, cut = found.place, "" if len(found.text) == found.n_characters else " …"
    source = ", ".join(f"{name} {value}" for name, value in found.source.items())
    lines = [
        f"\n{place.doc_id} in {short_reference(found.mixture)}: {place.snapshot}/{place.shard}, row {place.row}",
        f"{found.n_characters:,} characters, {found.n_tokens:,} tokens, content hash {found.content_hash}",
        f"source: {source or 'nothing is known'}",
        f"read {found.times_read:.4g} times, {found.share_of_run:.3g} of the run's tokens; {_copies(found)}",
        *(f"takes no part: {flag}" for flag in found.flags),
        f"benchmark items: {found.leaked or 'not looked for, since the mixture keeps documents that repeat them'}",
    ]
    text = f"{found.text}{cut}"
    groups = frame_table(pl.DataFrame([_group_row(group) for group in found.groups]), "Groups", _joint(found))
    parts: list[RenderableType] = [Text(lines[0], style="bold"), *map(Text, lines[1:]), Text(f"\n{text}"), groups]
    if tasks := _task_rows(found):
        caption = "utility is minus influence: above 0 it helps; percentile among its snapshot's documents"
        parts.append(frame_table(pl.DataFrame(tasks), "Utility per task and checkpoint (percentile)", caption))
    return parts


def overlap_tables(found: Overlap) -> Sequence[RenderableType]:
    """Agreement of the joint utilities at several shares, then of every pair of groups at the mixture's own."""
    joint = pl.DataFrame([_agreement_row(each) for each in found.joint])
    sampled = "" if found.sampled_share == 1 else f", a sample of {found.sampled_share:.1%}"
    title = f"{short_reference(found.first)} and {short_reference(found.second)}: the top documents of joint utility"
    caption = f"{found.n_documents:,} documents of {', '.join(found.snapshots)} that both have scored{sampled}"
    parts = [frame_table(joint, title, caption)]
    for name, cell in (("Overlap of top documents (by chance)", _overlap_cell), ("Rank correlation", _rank_cell)):
        rows: dict[str, dict[str, Any]] = {}
        for each in found.groups:
            rows.setdefault(each.first, {"group": each.first})[each.second] = cell(each)
        share = f" at the top {found.groups[0].top_share:.4g}" if cell is _overlap_cell else ""
        caption = f"rows: groups of {short_reference(found.first)}; columns: of {short_reference(found.second)}"
        parts.append(frame_table(pl.DataFrame(list(rows.values())), f"{name}{share}, group by group", caption))
    return parts


def _agreement_row(each: Agreement) -> dict[str, Any]:
    return {
        "top share": each.top_share,
        "documents": each.n_first,
        "in both": each.n_both,
        "overlap": each.overlap,
        "by chance": each.by_chance,
        "rank correlation of all": each.rank_correlation,
    }


def _overlap_cell(each: Agreement) -> str:
    return f"{each.overlap:.3f} ({each.by_chance:.3f})"


def _rank_cell(each: Agreement) -> str:
    return "–" if each.rank_correlation is None else f"{each.rank_correlation:+.3f}"


def _copies(found: Explanation) -> str:
    if not found.copies:
        return "no copies"
    names = ", ".join(f"{copy.doc_id} ({copy.snapshot})" for copy in found.copies[:3])
    return f"{len(found.copies)} copies of its text count with it: {names}"


def _joint(found: Explanation) -> str:
    return f"joint utility {found.joint_utility:.5g}, above {found.joint_percentile:.1f} % of the mixture's documents"


def _group_row(group: GroupAnswer) -> dict[str, Any]:
    return {
        "group": group.group,
        "in it": "yes" if group.kept else "no",
        "utility": _formatted(group.utility, ".5g"),
        "threshold": f"{group.threshold:.5g}",
        "margin": _formatted(group.margin, "+.5g"),
        "percentile": _formatted(group.percentile, ".1f"),
        "in its snapshot": _formatted(group.snapshot_percentile, ".1f"),
        "it is read": f"{group.times_read:.4g} times",
    }


def _formatted(value: float | None, form: str) -> str:
    return "no candidate" if value is None else format(value, form)


def _task_rows(found: Explanation) -> list[dict[str, Any]]:
    """A row per task, a column per checkpoint."""
    cells: dict[str, dict[str, Any]] = {}
    for group in found.groups:
        for task in group.tasks:
            row = cells.setdefault(
                task.task, {"task": task.task, **dict.fromkeys((g.group for g in found.groups), "–")}
            )
            row[group.group] = f"{task.utility:+.4g} ({task.percentile:.0f})"
    return list(cells.values())
