"""The studies of one world as Markdown tables: means over seeds, intervals over halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.influence_quality import worlds
from benchmarks.influence_quality.estimates import Estimate, clean_over_noise, estimate, mean_and_spread
from benchmarks.influence_quality.one_step import read_loss_changes, stepped_documents
from benchmarks.influence_quality.retraining import FIRST, SECOND, halves, losses_path, measured_losses
from benchmarks.influence_quality.scoring import Utilities, read_utilities, standardised
from benchmarks.influence_quality.settings import StudySettings
from benchmarks.influence_quality.study import ONE_STEP, SCORES, VARIANTS

PAIRS = (
    ("KFAC", "DataInf"),
    ("DataInf", "GradDot"),
    ("DataInf, 4 checkpoints", "DataInf"),
    ("KFAC, 4 checkpoints", "KFAC"),
    ("DataInf", "BM25"),
    ("KFAC", "BM25"),
    ("BM25 + DataInf", "BM25"),
    ("BM25 + KFAC", "BM25"),
    ("BM25 + KFAC", "KFAC"),
)


@dataclass(frozen=True)
class Finished:
    """A study whose models are all trained."""

    settings: StudySettings
    world: worlds.World
    folder: Path
    utilities: Utilities

    def tasks(self, group: str) -> list[int]:
        return [index for index, task in enumerate(self.world.tasks) if task.group == group]

    def halves(self, method: str, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and measured gain [m, M] of every half: the sum of its documents' utilities, the loss negated."""
        predicted = halves(self.settings).astype(float) @ self.utilities[method]  # [M, m]
        measured = -measured_losses(self.folder, FIRST, self.settings.halves)
        tasks = self.tasks(group)
        return predicted[:, tasks].T, measured[:, tasks].T

    def ceiling(self, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Losses [m, M'] of the same halves under two initialisations and orders."""
        count, tasks = self.settings.repeated_halves, self.tasks(group)
        one, other = (measured_losses(self.folder, run, count)[:, tasks].T for run in (FIRST, SECOND))
        return one, other

    def steps(self, method: str, group: str) -> tuple[np.ndarray, np.ndarray]:
        """Utility and measured gain [m, P] of the documents that one step was taken on."""
        rows, tasks = stepped_documents(self.settings), self.tasks(group)
        return self.utilities[method][rows][:, tasks].T, -read_loss_changes(self.folder / ONE_STEP)[:, tasks].T

    def auc(self, method: str, noise: str) -> float:
        utility = standardised(self.utilities[method]).mean(axis=1)
        return clean_over_noise(utility, self.world.kinds, self.world.clean, noise)


def finished(settings: StudySettings, out: Path) -> Finished | None:
    """The study if it is complete, else None."""
    folder = settings.folder(out)
    runs = [(FIRST, half) for half in range(settings.halves)]
    runs += [(SECOND, half) for half in range(settings.repeated_halves)]
    if not (folder / SCORES).exists() or not all(losses_path(folder, *run).exists() for run in runs):
        return None
    world = worlds.build(settings)
    return Finished(settings, world, folder, read_utilities(folder / SCORES, world))


def report(wanted: Sequence[StudySettings], out: Path) -> str:
    """Markdown: what was run, then the tables, for the studies that are complete."""
    studies = [study for settings in wanted if (study := finished(settings, out)) is not None]
    if not studies:
        return "No study is complete yet."
    lines = [_heading(studies, len(wanted))]
    for group in dict.fromkeys(task.group for task in studies[0].world.tasks):
        scores = lds(studies, group)
        lines += [f"### {group}", "", _ceiling_line(studies, group), "", *_methods(studies, group, scores), ""]
        lines += [*_differences(scores), ""]
    lines += _variants(studies)
    return "\n".join(lines)


def lds(studies: Sequence[Finished], group: str) -> dict[str, Estimate]:
    """Method -> its linear datamodelling score."""
    return {method: estimate([study.halves(method, group) for study in studies]) for method in studies[0].utilities}


def _heading(studies: Sequence[Finished], n_wanted: int) -> str:
    settings = studies[0].settings
    return (
        f"## {settings.world}{' (tied)' if settings.tied else ''}: {len(studies)} of {n_wanted} seeds, "
        f"{settings.documents} documents, {settings.halves} halves each\n"
    )


def _ceiling_line(studies: Sequence[Finished], group: str) -> str:
    ceiling = estimate([study.ceiling(group) for study in studies])
    best = float(np.sqrt(max(ceiling.value, 0)))
    return (
        f"Seed ceiling: two runs on the same halves agree by {_with_interval(ceiling)} "
        f"({studies[0].settings.repeated_halves} halves per seed), so knowing a half's expected loss would give an LDS "
        f"of about {best:.2f}, the root."
    )


def _methods(studies: Sequence[Finished], group: str, scores: Mapping[str, Estimate]) -> list[str]:
    noises = studies[0].world.noise
    header = ["score", "LDS [95 %]", "seeds", "one step [95 %]", *(f"AUC over {noise}" for noise in noises)]
    rows = [_row(header), _row(["---"] * len(header))]
    for method, score in scores.items():
        steps = estimate([study.steps(method, group) for study in studies])
        aucs = [mean_and_spread([study.auc(method, noise) for study in studies]) for noise in noises]
        span = f"{score.per_seed.min():.3f} to {score.per_seed.max():.3f}"
        rows.append(_row([method, _with_interval(score), span, _with_interval(steps), *aucs]))
    return rows


def _differences(scores: Mapping[str, Estimate]) -> list[str]:
    """LDS of one method minus the other, paired by half, and over seeds."""
    header = ["LDS difference", "[95 % over halves]", "[95 % over seeds]", "seeds above 0"]
    rows = [_row(header), _row(["---"] * len(header))]
    for one, other in PAIRS:
        difference = scores[one].minus(scores[other])
        above = f"{int((difference.per_seed > 0).sum())} of {len(difference.per_seed)}"
        low, high = difference.interval_over_seeds
        over_seeds = f"[{low:+.3f}, {high:+.3f}]" if len(difference.per_seed) > 1 else "one seed"
        rows.append(_row([f"{one} − {other}", _with_interval(difference, sign="+"), over_seeds, above]))
    return rows


def _variants(studies: Sequence[Finished]) -> list[str]:
    """LDS of other dampings and layer sets, over the seeds that have them."""
    paths = [study.folder / VARIANTS for study in studies]
    varied = [
        replace(study, utilities=read_utilities(path, study.world))
        for study, path in zip(studies, paths, strict=True)
        if path.exists()
    ]
    if not varied:
        return []
    groups = list(dict.fromkeys(task.group for task in varied[0].world.tasks))
    columns = [lds(varied, group) for group in groups]
    rows = [_row(["variant", *(f"LDS, {group} [95 %]" for group in groups)]), _row(["---"] * (1 + len(groups)))]
    rows += [_row([method, *(_with_interval(column[method]) for column in columns)]) for method in columns[0]]
    return [f"### Variants, seeds {', '.join(str(study.settings.seed) for study in varied)}", "", *rows]


def _with_interval(figure: Estimate, sign: str = "") -> str:
    low, high = figure.interval
    return f"{figure.value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
