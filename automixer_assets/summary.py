"""Tables for a person at a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from automixer_assets.benchmark.redrawn import alpha_intervals
from automixer_assets.comparison import MEAN_TASK
from automixer_assets.export import SHEET, ExportReport
from automixer_assets.metadata import format_cell
from automixer_assets.mixture.exposure import summarise_exposure
from automixer_assets.mixture.manifest import Manifest
from automixer_assets.pages.characteristics import characteristics_tables
from automixer_assets.pages.evaluation import comparison_grid
from automixer_assets.pages.exports import export_groups
from automixer_assets.pages.mixture import (
    contrast_note,
    doubt_note,
    exposure_histogram,
    manifest_budget,
    manifest_groups,
    repetition_note,
)
from automixer_assets.pages.simulation import benchmark_grid
from automixer_assets.pages.uncertainty import interval_grid, interval_notes, runners_up
from automixer_assets.removals import RemovalReport
from automixer_assets.settings import differing_options

SHOWN_ENTRIES = 5


def frame_table(frame: pl.DataFrame, title: str, caption: str = "") -> RenderableType:
    """A frame as a table with a note below; columns of numbers are right-aligned, marked cells are bold."""
    table = Table(title=title, title_justify="left", title_style="bold", padding=(0, 1))
    for name, dtype in frame.schema.items():
        numeric = dtype.is_numeric() or name.isdigit()
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name.isdigit())
    for row in frame.iter_rows():
        cells = [format_cell(value) for value in row]
        table.add_row(*(Text(cell, style="bold green" if cell.endswith("*") else "") for cell in cells))
    return Group(Text(""), table, Text(caption, style="italic")) if caption else Group(Text(""), table)


def short_tasks(tasks: Sequence[str]) -> dict[str, str]:
    """Task names without the words that all of them begin with."""
    words = [task.split("_") for task in tasks]
    common = 0
    while len(words) > 1 and all(len(each) > common + 1 and each[common] == words[0][common] for each in words):
        common += 1
    return {task: "_".join(each[common:]) for task, each in zip(tasks, words, strict=True)}


def benchmark_panel(benchmark: pl.DataFrame) -> RenderableType:
    """Tasks x checkpoints, by accuracy and by gold-answer NLL."""
    benchmark = _shortened(benchmark)
    accuracy = benchmark_grid(benchmark, "acc", "max")
    nll = benchmark_grid(benchmark, "gold_nll", "min").drop("chance")
    return Group(
        frame_table(accuracy, "Benchmark table: accuracy by training step (* best, ties to the earliest)"),
        frame_table(nll, "Benchmark table: gold-answer NLL by training step, nats (* best)"),
    )


def selected_panel(recipe: str, selected: pl.DataFrame, assignments: pl.DataFrame) -> RenderableType:
    """The selected checkpoints, what they are best for, and which tasks had no clear best step."""
    names = short_tasks(assignments["task"].to_list())
    flagged = [names[task] for task in assignments.filter(pl.col("above_chance").not_())["task"]]
    note = f"never above chance + 2 stderr, so chosen by gold-answer NLL: {', '.join(flagged)}" if flagged else ""
    tasks = pl.col("tasks").list.eval(pl.element().replace(names))
    return frame_table(
        selected.select("checkpoint", "progress", "alpha", tasks.alias("best for")),
        f"Checkpoints of recipe {recipe}",
        note,
    )


def export_panel(report: ExportReport) -> RenderableType:
    """What was exported, and where to go on."""
    document = report.document
    title = f"{document['identity']['mixture'].split('@')[0]} for {document['identity']['format']}: {report.out}"
    what = "was complete; its digests agree" if report.reused else f"{len(document['files'])} files"
    lines = [what, document["exhaustion"], *document["notes"], f"start training: {report.out / SHEET}"]
    return frame_table(export_groups(document), title, "\n".join(lines))


def manifest_tables(manifest: Manifest) -> Sequence[RenderableType]:
    """Groups of a mixture, and what applies to all of them."""
    differing = differing_options(manifest.profile, manifest.options)
    options = ", ".join(f"{name}={value}" for name, value in differing.items()) or "none"
    note = (
        f"profile {manifest.profile}, options that differ: {options}; snapshots: {', '.join(manifest.snapshots)}; "
        f"budget {manifest.token_budget:,} tokens, shortfall {manifest.shortfall:,}; "
        f"weight contrast {contrast_note(manifest)}; when a group runs out: {manifest.exhaustion_policy}; "
        f"{doubt_note(manifest)}; {repetition_note(manifest)}"
    )
    title = f"Mixture {manifest.mixture}@{manifest.digest[:12]}"
    return [
        frame_table(manifest_groups(manifest).drop("alpha", "tasks"), title, note),
        frame_table(manifest_budget(manifest), "Budget: what each group gives"),
    ]


def exposure_tables(folder: Path) -> Sequence[RenderableType]:
    """The exposure ledger of a weight_manifest folder; nothing for one of an older version, which had none like it."""
    if not (folder / "most_read.parquet").exists():
        return []
    ledger = summarise_exposure(folder / "exposure.parquet")
    most = pl.read_parquet(folder / "most_read.parquet").head(SHOWN_ENTRIES)
    note = (
        f"{ledger.n_contents:,} texts, at most {ledger.max_exposures:.3g} times, {ledger.mean_exposures:.3g} on "
        f"average; {ledger.n_unread:,} left out by samples, {ledger.n_in_several_groups:,} in several groups, "
        f"{ledger.n_with_copies:,} with copies in a group, {ledger.n_in_several_snapshots:,} in several snapshots"
    )
    return [
        frame_table(exposure_histogram(ledger), "Exposure: how often texts are expected to be read", note),
        frame_table(
            most.select("expected_exposures", "n_groups", "n_copies", "snapshot", "doc_id"), "Exposure: the most read"
        ),
    ]


def uncertainty_panel(manifest: Manifest, folder: Path, selected: Path | None) -> Sequence[RenderableType]:
    """How sure the weights are, by what is drawn again, and how often other checkpoints would have been selected."""
    intervals = pl.read_parquet(folder / "intervals.parquet")
    title = f"Weights of {manifest.mixture}@{manifest.digest[:12]}: 95 % intervals by what is drawn again"
    panel = [frame_table(interval_grid(intervals), title, "; ".join(interval_notes(folder)))]
    if selected is not None:
        others = _shortened(runners_up(pl.read_parquet(selected / "winners.parquet")))
        panel.append(frame_table(others, "Had other selection items been drawn: how often would another step have won"))
        alphas = alpha_intervals(pl.read_parquet(selected / "redrawn.parquet"))
        panel.append(frame_table(alphas, "Checkpoints that would have been selected, and 95 % of their alphas"))
    return panel


def characteristics_panel(manifest: Manifest, folder: Path) -> Sequence[RenderableType]:
    """Why these documents: one table per question."""
    title = f"Mixture {manifest.mixture}@{manifest.digest[:12]}"
    return [frame_table(table, f"{title}: {question}") for question, table in characteristics_tables(folder)]


def removal_panel(report: RemovalReport) -> RenderableType:
    """The mixtures that a removal list touches, and the entries that name nothing."""
    shown = ", ".join(report.unmatched[:SHOWN_ENTRIES]) + (", …" if len(report.unmatched) > SHOWN_ENTRIES else "")
    note = f"{report.removal_list}: {report.n_entries:,} entries, {len(report.unmatched):,} name no document"
    note += f" ({shown})" if shown else ""
    if not report.mixtures:
        checked = ", ".join(name[: name.index("@") + 13] for name in report.checked) or "none was made yet"
        return Text(f"{note}\nnone of the latest mixtures contains a removed document: {checked}")
    rows = [
        {
            "mixture": f"{each.mixture}@{each.digest[:12]}",
            "removed documents": each.n_documents,
            "by group": ", ".join(f"{group} {count:,}" for group, count in each.groups.items() if count),
            "first ones": ", ".join(each.first_ids),
        }
        for each in report.mixtures
    ]
    note += "; materialise these mixtures again: `automixer materialize '+weight_manifest'`"
    return frame_table(pl.DataFrame(rows), "Mixtures that contain removed documents", note)


def recovery_panel(
    aucs: Mapping[str, pl.DataFrame], *, corpus_share: float, kept_shares: Mapping[str, float]
) -> RenderableType:
    """Retrieval of planted documents per mixture: how often one that teaches ranks above one that does not."""
    first = next(iter(aucs.values()))
    names = short_tasks([task for task in first["task"] if task != "overall"])
    frame = first.select(
        pl.col("task").replace(names).alias("planted documents of"), pl.col("n_planted").alias("planted")
    )
    frame = frame.with_columns(
        *(auc["auc"].round(3).alias(f"AUC, joint utility of {name}") for name, auc in aucs.items())
    )
    kept = ", ".join(f"{share:.1%} of the groups of {name}" for name, share in kept_shares.items())
    note = f"documents that teach a skill: {corpus_share:.1%} of the corpus, {kept} (a document counts once per group)"
    return frame_table(frame, "Does utility find what was planted?", note)


def comparison_panel(comparison: pl.DataFrame, baseline: str) -> RenderableType:
    """Targets trained on each mixture, by accuracy and by gold-answer NLL."""
    means = comparison.filter(pl.col("task") == MEAN_TASK)
    comparison = pl.concat([_shortened(comparison.filter(pl.col("task") != MEAN_TASK)), means])
    seeds = comparison["n_seeds"].max()
    note = (
        f"mean ± sd over {seeds} seeds, same token budget; differences to {baseline} ± standard error, paired by seed"
    )
    return Group(
        frame_table(comparison_grid(comparison, "acc", baseline), "Targets on the final items: accuracy"),
        frame_table(
            comparison_grid(comparison, "gold_nll", baseline), "Targets on the final items: gold-answer NLL, nats", note
        ),
    )


def mixtures_table(rows: Sequence[Mapping[str, object]]) -> RenderableType:
    """The list of mixtures, latest first."""
    table = Table("mixture", "digest", "made", "recipe", "snapshots", "weights", title="Mixtures", title_justify="left")
    for row in rows:
        made = datetime.datetime.fromtimestamp(float(str(row["made"]))).strftime("%Y-%m-%d %H:%M")
        weights, snapshots = row.get("weights"), row.get("snapshots")
        shares = (
            ", ".join(f"{name} {share:.3f}" for name, share in weights.items()) if isinstance(weights, dict) else "–"
        )
        names = ", ".join(map(str, snapshots)) if isinstance(snapshots, list) else "–"
        table.add_row(str(row["mixture"]), str(row["digest"])[:12], made, str(row.get("recipe", "–")), names, shares)
    return table


def _shortened(frame: pl.DataFrame) -> pl.DataFrame:
    names = short_tasks(frame["task"].unique(maintain_order=True).to_list())
    return frame.with_columns(pl.col("task").replace(names))
