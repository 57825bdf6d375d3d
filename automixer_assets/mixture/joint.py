"""Joint influence of a shard: per group the macro mean over its tasks, in utility, blended (paper, section 4).

A document's row depends on its own scores and on frozen constants alone, so this is a pure function per shard. The
files of a shard are row-aligned: they are joined by position, once their documents are verified to be the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import UTILITY_PREFIX, has_partial_groups, utility_column
from automixer_assets.mixture.normalisation import Normalisation, score_parameters
from automixer_assets.mixture.parquet import have_equal_bytes, read_columns, write_table
from automixer_assets.mixture.sql import Database, open_database, run_sql

DOCUMENT_COLUMNS = ("doc_id", "n_tokens")
QUERIES = b"automixer.queries"
"""Parquet metadata of a joint_influence file: group -> digest of the query that scored it, as JSON."""


def write_joint_shard(
    *,
    scores: Mapping[str, Path],
    columns: Mapping[str, Sequence[str]],
    alphas: Mapping[str, float],
    constants: Mapping[str, Normalisation] | None,
    out: Path,
) -> None:
    """Write the joint influence of one shard to `out`.

    Args:
        scores: group -> its checkpoint_influence file; the files are row-aligned with one another.
        columns: group -> influence columns whose mean is the group's score.
        alphas: group -> blending factor.
        constants: group -> its normalisation, or None to leave utilities as they are.

    Raises:
        AutomixerError: files that are not row-aligned, a missing column, a null or NaN score.
    """
    write_table(blend(influence_utilities(scores, columns, constants), alphas), out)


def influence_utilities(
    scores: Mapping[str, Path],
    columns: Mapping[str, Sequence[str]],
    constants: Mapping[str, Normalisation] | None,
) -> pa.Table:
    """Row-aligned `doc_id, n_tokens, utility__GROUP ...` of one shard, groups in the order of `scores`."""
    if not scores:
        raise AutomixerError("joint influence has no groups: the recipe selected no checkpoint; check its `selection`")
    first_path = next(iter(scores.values()))
    tables: list[pa.Table] = []
    with open_database() as database:
        for group, path in scores.items():
            scaling = Normalisation() if constants is None else constants[group]
            tables.append(_group_utility(database, path, group, columns[group], scaling))
            require_same_documents(path, first_path)
    utilities = {utility_column(group): table["utility"] for group, table in zip(scores, tables, strict=True)}
    documents = read_documents(first_path)
    table = pa.table({**{name: documents[name] for name in DOCUMENT_COLUMNS}, **utilities})
    return table.replace_schema_metadata(_queries(scores))


def _group_utility(
    database: Database, path: Path, group: str, columns: Sequence[str], scaling: Normalisation
) -> pa.Table:
    """A table `utility` of one shard for one group; the mean of its tasks' ranks where each task has its own."""
    if scaling.tasks:
        ranks = [_group_utility(database, path, group, [column], scaling.tasks[column]) for column in columns]
        return pa.table({"utility": sum(table["utility"].to_numpy() for table in ranks) / len(ranks)})
    parameters = score_parameters(path, columns)
    table = database.table("group_utility", parameters | {"center": scaling.center, "scale": scaling.scale})
    _require_finite(table, group, path)
    return scaling.apply(table, database)


def blend(utilities: pa.Table, alphas: Mapping[str, float]) -> pa.Table:
    """Append joint_utility and joint_influence to a table of `utility__GROUP` columns.

    Of a document that is no candidate of some groups the others are blended.
    """
    groups = [name.removeprefix(UTILITY_PREFIX) for name in utilities.column_names if name.startswith(UTILITY_PREFIX)]
    if set(groups) != set(alphas):
        raise AutomixerError(f"alphas are given for {sorted(alphas)} but utilities for {sorted(groups)}; give one each")
    factors = [float(alphas[group]) for group in groups]
    blended = run_sql("joint_influence", {"alphas": factors}, utilities=_without_nulls(utilities))
    for name in blended.column_names:
        utilities = utilities.append_column(name, blended[name])
    return utilities


def _without_nulls(utilities: pa.Table) -> pa.Table:
    """Nothing is added for a group that a document is no candidate of."""
    if not has_partial_groups(utilities.schema):
        return utilities
    groups = [name for name in utilities.column_names if name.startswith(UTILITY_PREFIX)]
    n_groups = sum(utilities[name].is_valid().to_numpy().astype(np.int64) for name in groups)
    if len(nowhere := np.flatnonzero(n_groups == 0)):
        doc_id = utilities["doc_id"][int(nowhere[0])].as_py()
        raise AutomixerError(f"document {doc_id!r} (row {nowhere[0]}) has no utility for any group; correct the scorer")
    return pa.table({name: utilities[name].fill_null(0.0) for name in groups})


def read_documents(path: Path) -> pa.Table:
    """`doc_id, n_tokens` of a row-aligned file."""
    documents = read_columns(path, DOCUMENT_COLUMNS)
    return documents.set_column(1, "n_tokens", documents["n_tokens"].cast(pa.int64()))


def require_same_documents(path: Path, reference_path: Path) -> None:
    """Refuse a file whose rows are not the reference file's documents; equal bytes are not decoded."""
    if path != reference_path and not have_equal_bytes(path, reference_path, DOCUMENT_COLUMNS):
        require_aligned(read_documents(path), path, read_documents(reference_path), reference_path)


def require_aligned(table: pa.Table, path: Path, reference: pa.Table, reference_path: Path) -> None:
    """Refuse a table whose rows are not the reference's documents in the reference's order."""
    if table.num_rows != reference.num_rows:
        raise AutomixerError(
            f"{path} has {table.num_rows} rows but {reference_path} has {reference.num_rows} "
            f"(first differing row: {min(table.num_rows, reference.num_rows)}); score the shard again"
        )
    for column in DOCUMENT_COLUMNS:
        found, expected = table[column].cast(reference[column].type), reference[column]
        if not found.equals(expected):
            differs = zip(found.to_pylist(), expected.to_pylist(), strict=True)
            row, pair = next((row, pair) for row, pair in enumerate(differs) if pair[0] != pair[1])
            raise AutomixerError(
                f"{path} is not row-aligned with {reference_path}: row {row} has {column} "
                f"{pair[0]!r} instead of {pair[1]!r}; score the shard again"
            )


def _queries(scores: Mapping[str, Path]) -> dict[bytes, bytes] | None:
    """Metadata that says which query scored each group, where the score files do."""
    found = {group: (pq.read_schema(path).metadata or {}).get(b"automixer.query") for group, path in scores.items()}
    digests = {group: digest.decode() for group, digest in found.items() if digest is not None}
    return {QUERIES: json.dumps(digests, sort_keys=True).encode()} if digests else None


def _require_finite(table: pa.Table, group: str, path: Path) -> None:
    utility = table["utility"]
    if not utility.null_count and all(np.isfinite(chunk.to_numpy()).all() for chunk in utility.chunks):
        return
    row = pc.call_function("is_finite", [utility]).fill_null(False).index(False).as_py()
    value = utility[row].as_py()
    kind = "null" if value is None else "NaN" if math.isnan(value) else "infinite"
    raise AutomixerError(
        f"{path} has a {kind} score for document {read_documents(path)['doc_id'][row].as_py()!r} "
        f"(row {row}, group {group}); score the shard again or remove the document"
    )
