"""Joint influence of a shard: per group the macro mean over its tasks, in utility, blended (paper, section 4).

A document's row depends on its own scores and on frozen constants alone, so this is a pure function per shard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import UTILITY_PREFIX, utility_column
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.sql import open_database, run_sql

NO_NORMALISATION = (0.0, 1.0)


def write_joint_shard(
    *,
    scores: Mapping[str, Path],
    columns: Mapping[str, Sequence[str]],
    alphas: Mapping[str, float],
    constants: Mapping[str, tuple[float, float]] | None,
    out: Path,
) -> None:
    """Write the joint influence of one shard to `out`.

    Args:
        scores: group -> its checkpoint_influence file; the files are row-aligned with one another.
        columns: group -> influence columns whose mean is the group's score.
        alphas: group -> blending factor.
        constants: group -> (center, scale) from `normalisation_constants`, or None to leave utilities as they are.

    Raises:
        AutomixerError: files that are not row-aligned, a missing column, a null or NaN score.
    """
    write_table(blend(influence_utilities(scores, columns, constants), alphas), out)


def influence_utilities(
    scores: Mapping[str, Path],
    columns: Mapping[str, Sequence[str]],
    constants: Mapping[str, tuple[float, float]] | None,
) -> pa.Table:
    """Row-aligned `doc_id, n_tokens, utility__GROUP ...` of one shard, groups in the order of `scores`."""
    if not scores:
        raise AutomixerError("joint influence has no groups: the recipe selected no checkpoint; check its `selection`")
    first_path = next(iter(scores.values()))
    tables: list[pa.Table] = []
    with open_database() as database:
        for group, path in scores.items():
            center, scale = NO_NORMALISATION if constants is None else constants[group]
            table = database.table(
                "group_utility", {**_score_parameters(path, columns[group]), "center": center, "scale": scale}
            )
            tables.append(table)
            require_aligned(table, path, tables[0], first_path)
            _require_finite(table, group, path)
    utilities = {utility_column(group): table["utility"] for group, table in zip(scores, tables, strict=True)}
    return pa.table({"doc_id": tables[0]["doc_id"], "n_tokens": tables[0]["n_tokens"], **utilities})


def blend(utilities: pa.Table, alphas: Mapping[str, float]) -> pa.Table:
    """Append joint_utility and joint_influence to a table of `utility__GROUP` columns."""
    groups = [name.removeprefix(UTILITY_PREFIX) for name in utilities.column_names if name.startswith(UTILITY_PREFIX)]
    if set(groups) != set(alphas):
        raise AutomixerError(f"alphas are given for {sorted(alphas)} but utilities for {sorted(groups)}; give one each")
    return run_sql("joint_influence", {"alphas": [float(alphas[group]) for group in groups]}, utilities=utilities)


def normalisation_constants(reference_scores: Path, columns: Sequence[str]) -> tuple[float, float]:
    """Median and median absolute deviation of the group's utility over the reference sample (`median_mad`)."""
    row = run_sql("normalisation_constants", _score_parameters(reference_scores, columns)).to_pylist()[0]
    if row["n_unscored"]:
        raise AutomixerError(
            f"{reference_scores} has {row['n_unscored']} documents with a null or NaN score; "
            "materialise its query again"
        )
    if not row["n_documents"] or row["scale"] == 0:
        raise AutomixerError(
            f"median_mad cannot scale {reference_scores}: the median absolute deviation over its "
            f"{row['n_documents']} documents is 0; use a larger reference sample or `normalisation: none`"
        )
    return row["center"], row["scale"]


def require_aligned(table: pa.Table, path: Path, reference: pa.Table, reference_path: Path) -> None:
    """Refuse a table whose rows are not the reference's documents in the reference's order."""
    if table.num_rows != reference.num_rows:
        raise AutomixerError(
            f"{path} has {table.num_rows} rows but {reference_path} has {reference.num_rows} "
            f"(first differing row: {min(table.num_rows, reference.num_rows)}); score the shard again"
        )
    for column in ("doc_id", "n_tokens"):
        same = table[column].to_numpy() == reference[column].to_numpy()
        if not same.all():
            row = int(np.argmin(same))
            raise AutomixerError(
                f"{path} is not row-aligned with {reference_path}: row {row} has {column} "
                f"{table[column][row].as_py()!r} instead of {reference[column][row].as_py()!r}; score the shard again"
            )


def _score_parameters(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    if not columns:
        raise AutomixerError(
            f"no influence columns are given for {path}: its group has no tasks; use `group_tasks: all`"
        )
    if not path.exists():
        raise AutomixerError(f"{path} does not exist; materialise the influence of that checkpoint first")
    missing = sorted(set(columns) - set(pq.read_schema(path).names))
    if missing:
        raise AutomixerError(
            f"{path} has no column {', '.join(missing)}; score it with the recipe's tasks and curvature"
        )
    return {"file": str(path), "columns": list(columns)}


def _require_finite(table: pa.Table, group: str, path: Path) -> None:
    finite = np.isfinite(table["utility"].to_numpy())
    if not finite.all():
        row = int(np.argmin(finite))
        value = table["utility"][row].as_py()
        kind = "null" if value is None else "NaN" if math.isnan(value) else "infinite"
        raise AutomixerError(
            f"{path} has a {kind} score for document {table['doc_id'][row].as_py()!r} (row {row}, group {group}); "
            "score the shard again or remove the document"
        )
