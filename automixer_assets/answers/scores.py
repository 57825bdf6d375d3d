"""Are a mixture's scores what its checkpoints give? Selected checkpoints, normalisation, joint influence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.answers.findings import Check
from automixer_assets.answers.formulas import blending_factors, group_utility, scaling_constants
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.shards import MixtureShard
from automixer_assets.benchmark.selection import select_checkpoints
from automixer_assets.mixture.groups import utility_column
from automixer_assets.mixture.normalisation import Normalisation, read_normalisation

KNOWN_SCORERS = ("influence", "uniform")


def check_checkpoints(inputs: PinnedInputs) -> Check:
    """Best steps and alphas again from the benchmark table, and the manifest's groups against them."""
    check = Check("checkpoints", "Are checkpoints, tasks and alphas those of the benchmark table?")
    if not inputs.recipe.uses_checkpoints:
        check.note = f"scorer {inputs.recipe.scorer} selects no checkpoints"
        return check
    with check.reading("selected_checkpoints"):
        folder = inputs.folder("selected_checkpoints", inputs.manifest.recipe)
        selected = pl.read_parquet(folder / "selected.parquet")
        _check_groups(check, inputs, selected)
        factors = blending_factors(
            inputs.recipe.alpha, selected["step"].to_list(), selected["tasks"].list.len().to_list()
        )
        for checkpoint, stored, alpha in zip(selected["checkpoint"], selected["alpha"], factors, strict=True):
            check.close(f"{folder / 'selected.parquet'}: alpha of {checkpoint}", stored, alpha)
        _check_selection(check, inputs, folder)
    return check


def _check_groups(check: Check, inputs: PinnedInputs, selected: pl.DataFrame) -> None:
    rows = {row["checkpoint"]: row for row in selected.iter_rows(named=True)}
    check.equal("groups", [group.name for group in inputs.manifest.groups], list(rows))
    for group in inputs.manifest.groups:
        row = rows.get(group.name)
        if row is None:
            continue
        where = f"groups[{group.name}]"
        check.equal(f"{where}.checkpoint", group.checkpoint, row["checkpoint"])
        check.equal(f"{where}.step", group.step, row["step"])
        check.equal(f"{where}.tasks", list(group.tasks), row["tasks"])
        check.equal(f"{where}.alpha", group.alpha, row["alpha"])


def _check_selection(check: Check, inputs: PinnedInputs, folder: Path) -> None:
    proxy = inputs.manifest.proxy
    table = inputs.folder(f"{proxy}/benchmark_table")
    cosines = None
    if (f"{proxy}/task_gradients", None) in inputs.pins:
        rows = pl.read_parquet(inputs.folder(f"{proxy}/task_gradients") / "cosines.parquet").rows()
        cosines = {(task, other): cosine for task, other, cosine in rows}
    benchmark, items = (pl.read_parquet(table / f"{name}.parquet") for name in ("benchmark", "items"))
    selection = select_checkpoints(benchmark, inputs.recipe, items=items, cosines=cosines)
    for name, expected in (("selected", selection.selected), ("assignments", selection.assignments)):
        path = folder / f"{name}.parquet"
        compare_tables(check, path, pl.read_parquet(path), expected)


def compare_tables(check: Check, path: Path, stored: pl.DataFrame, recomputed: pl.DataFrame) -> None:
    """Every cell of a small table, floats within rounding; a row is called by its first column."""
    check.equal(f"{path}: columns", stored.columns, recomputed.columns)
    check.equal(f"{path}: rows", stored.height, recomputed.height)
    if stored.columns != recomputed.columns:
        return
    for found, expected in zip(stored.iter_rows(named=True), recomputed.iter_rows(named=True), strict=False):
        name = next(iter(expected.values()))
        for column, value in expected.items():
            where = f"{path}: {column} of {name}"
            if isinstance(value, float) and isinstance(found[column], float):
                check.close(where, found[column], value)
            else:
                check.equal(where, found[column], value)


def check_normalisation(inputs: PinnedInputs) -> tuple[Check, dict[str, Normalisation]]:
    """Constants again from the reference sample's scores; returns them, group -> constants.

    Where a snapshot's stored constants differ, the recomputed ones are what scores are held against.
    """
    check = Check("normalisation", "Are the scaling constants those of the reference sample?")
    method, groups = inputs.recipe.normalisation, {}
    with check.reading("selected_checkpoints"):
        groups = inputs.score_columns
    if method == "none" or not groups or inputs.recipe.scorer != "influence":
        check.note = "utilities are not normalised" if method == "none" else "the strategy's own are used as they are"
        return check, {group: Normalisation() for group in groups}
    found = {}
    for group, columns in groups.items():
        with check.reading(f"{inputs.manifest.proxy}/influence_query[{group}]"):
            scores = pl.read_parquet(inputs.query(group) / "reference_scores.parquet", columns=columns)
            found[group] = scaling_constants(method, scores.to_numpy(), columns)
    for snapshot in inputs.snapshots:
        with check.reading(f"joint_influence[{snapshot}]"):
            stored = read_normalisation(inputs.joint(snapshot))
            for group, constants in found.items():
                where = f"{inputs.joint(snapshot) / 'normalisation.json'}: {group}"
                _compare_constants(check, where, stored.get(group, Normalisation()), constants)
    return check, found


def _compare_constants(check: Check, where: str, stored: Normalisation, expected: Normalisation) -> None:
    check.close(f"{where}.center", stored.center, expected.center, abs(expected.scale))
    check.close(f"{where}.scale", stored.scale, expected.scale)
    knots = [np.array(each.knots).reshape(-1, 2) for each in (stored, expected)]
    for index, name in enumerate(("knot", "rank")):
        check.rows(f"{where}.{name}", knots[0][:, index], knots[1][:, index])
    for column, ranks in expected.tasks.items():
        _compare_constants(check, f"{where}.{column}", stored.tasks.get(column, Normalisation()), ranks)


def check_joint_shard(check: Check, shard: MixtureShard, constants: dict[str, Normalisation]) -> None:
    """One shard's joint influence, row by row, from the influence at every checkpoint."""
    inputs, path = shard.inputs, shard.joint_path
    tokens = inputs.corpus(shard.snapshot).folder / f"{shard.name}.parquet"
    documents = pl.read_parquet(tokens, columns=["doc_id", "n_tokens"])
    check.equal_rows(f"{path}: doc_id", shard.doc_ids.to_numpy(), documents["doc_id"].to_numpy())
    check.equal_rows(f"{path}: n_tokens", shard.n_tokens, documents["n_tokens"].to_numpy())
    if inputs.recipe.scorer not in KNOWN_SCORERS:
        check.note = f"utilities of scorer {inputs.recipe.scorer} are taken as they are"
    for group in shard.groups if inputs.recipe.scorer in KNOWN_SCORERS else ():
        utility, scale = _utility(shard, group, constants, documents)
        check.rows(f"{path}: {utility_column(group)}", shard.joint[utility_column(group)].to_numpy(), utility, scale)
    alphas = np.array([group.alpha for group in inputs.manifest.groups])
    terms = alphas[:, None] * np.nan_to_num(shard.utilities)  # [groups, n]
    joint = shard.joint["joint_utility"].to_numpy()
    check.rows(f"{path}: joint_utility", joint, terms.sum(axis=0), np.abs(terms).sum(axis=0))
    check.rows(f"{path}: joint_influence", shard.joint["joint_influence"].to_numpy(), -joint)


def _utility(
    shard: MixtureShard, group: str, constants: dict[str, Normalisation], documents: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray | float]:
    """The group's utilities again, [n], and the size of what was added up."""
    inputs = shard.inputs
    if inputs.recipe.scorer == "uniform":
        return np.ones(documents.height), 0.0
    columns = inputs.score_columns[group]
    scores = pl.read_parquet(inputs.influence(group, shard.snapshot) / f"{shard.name}.parquet")
    if not scores["doc_id"].equals(documents["doc_id"]):
        raise ValueError(f"the influence of {group} on {shard.place} is not row-aligned with the tokenised shard")
    influences, scaling = scores.select(columns).to_numpy(), constants[group]
    if influences.shape[0] == 0:
        return np.zeros(0), 0.0
    scale = (np.abs(influences).astype(np.float64).mean(axis=1) + abs(scaling.center)) / abs(scaling.scale)
    return group_utility(influences, scaling), scale
