"""Scale between checkpoints: constants from the frozen reference sample (DESIGN: scale between checkpoints).

They are written beside the joint influence that they made. A document's normalised utility depends on its own score
and on them alone, so a new snapshot changes no old utility.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.files import write_atomically
from automixer_assets.mixture.sql import Database, run_sql

Method = Literal["z", "median_mad", "rank", "task_rank"]
"""How; `task_rank` brings every task to one scale before their mean is taken, the others scale that mean."""
FILE = "normalisation.json"


@dataclass(frozen=True)
class Normalisation:
    """How a group's utilities are scaled.

    Attributes:
        center, scale: normalised = (utility - center) / scale; 0 and 1 under `rank` and `task_rank`.
        knots: under `rank`, (utility, rank) of the reference sample, ascending; linear between, flat beyond.
        tasks: under `task_rank`, influence column -> its ranks; the group's utility is their mean.
    """

    center: float = 0.0
    scale: float = 1.0
    knots: tuple[tuple[float, float], ...] = ()
    tasks: Mapping[str, Normalisation] = field(default_factory=dict)

    def apply(self, utilities: pa.Table, database: Database) -> pa.Table:
        """Ranks of a table `utility`, in its order; center and scale are applied where utilities are made."""
        if not self.knots:
            return utilities
        numbered = utilities.append_column("row", pa.array(np.arange(utilities.num_rows)))
        knots = [{"knot": knot, "rank": rank} for knot, rank in self.knots]
        return database.table("ranked_utility", {"knots": knots}, utilities=numbered)


def fit_normalisation(method: Method, reference_scores: Path, columns: Sequence[str]) -> Normalisation:
    """Constants of a group from the scores of the reference sample.

    Raises:
        AutomixerError: a score that is no number, or scores that do not differ.
    """
    parameters = score_parameters(reference_scores, columns)
    row = run_sql("normalisation_constants", parameters).to_pylist()[0]
    if row["n_unscored"]:
        raise AutomixerError(
            f"{reference_scores} has {row['n_unscored']} documents with a null or NaN score; "
            "materialise its query again"
        )
    if method == "rank":
        return _ranks(reference_scores, parameters)
    if method == "task_rank":
        return Normalisation(
            tasks={column: _ranks(reference_scores, parameters | {"columns": [column]}) for column in columns}
        )
    name = "median_absolute_deviation" if method == "median_mad" else "standard_deviation"
    if not row["n_documents"] or row[name] == 0:
        raise AutomixerError(
            f"{method} cannot scale {reference_scores}: the {name.replace('_', ' ')} over its "
            f"{row['n_documents']} documents is 0; use a larger reference sample or `normalisation: none`"
        )
    return Normalisation(row["median" if method == "median_mad" else "mean"], row[name])


def _ranks(reference_scores: Path, parameters: Mapping[str, Any]) -> Normalisation:
    rows = run_sql("normalisation_ranks", parameters).to_pylist()
    if len(rows) < 2:
        raise AutomixerError(
            f"rank cannot order {reference_scores}: its documents have {len(rows)} different scores in "
            f"{', '.join(parameters['columns'])}; use a larger reference sample or `normalisation: none`"
        )
    return Normalisation(knots=tuple((row["knot"], row["rank"]) for row in rows))


def score_parameters(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """`$file` and `$columns` of the statements that read a group's scores, all of which must be there."""
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


def write_normalisation(constants: Mapping[str, Normalisation], folder: Path) -> None:
    """Persist group -> constants in `folder`."""
    content = {group: asdict(each) for group, each in constants.items()}
    write_atomically(folder / FILE, (json.dumps(content, indent=1) + "\n").encode())


def read_normalisation(folder: Path) -> dict[str, Normalisation]:
    """What `write_normalisation` wrote; empty where utilities are as they were scored."""
    path = folder / FILE
    if not path.exists():
        return {}
    return {group: _read(row) for group, row in json.loads(path.read_text()).items()}


def _read(row: Mapping[str, Any]) -> Normalisation:
    knots = tuple((knot, rank) for knot, rank in row["knots"])
    tasks = {column: _read(each) for column, each in row.get("tasks", {}).items()}
    return Normalisation(row["center"], row["scale"], knots, tasks)
