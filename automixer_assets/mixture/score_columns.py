"""Which scores make a group's utility: the columns of checkpoint_influence, by checkpoint and task."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.settings import Recipe


def influence_column(curvature: str, query: str, task: str) -> str:
    """The score column of a task: `influence_datainf_sequence_microworld_piqa`."""
    return f"influence_{curvature}_{query}_{task}"


def selected_origins(selected: Path) -> tuple[GroupOrigin, ...]:
    """The groups that the checkpoints of a selected_checkpoints folder stand for, by step."""
    return tuple(
        GroupOrigin(row["checkpoint"], row["checkpoint"], row["step"], tuple(row["tasks"]), row["alpha"])
        for row in pl.read_parquet(selected / "selected.parquet").iter_rows(named=True)
    )


def selection_tasks(selected: Path) -> list[str]:
    """The tasks of a selected_checkpoints folder, lm-eval's groups expanded."""
    return pl.read_parquet(selected / "assignments.parquet")["task"].to_list()


def judged_tasks(origin: GroupOrigin, recipe: Recipe, tasks: list[str]) -> list[str]:
    """Tasks whose scores make a group's utility: under `assigned` its own, if it has any; all of them otherwise."""
    return list(origin.tasks) if recipe.group_tasks == "assigned" and origin.tasks else tasks


def score_columns(origin: GroupOrigin, recipe: Recipe, tasks: list[str]) -> list[str]:
    """Their columns in checkpoint_influence."""
    return [influence_column(recipe.curvature, recipe.query, task) for task in judged_tasks(origin, recipe, tasks)]
