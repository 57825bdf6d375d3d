from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import PARTIAL_GROUPS
from automixer_assets.mixture.joint import QUERIES, blend, write_joint_shard
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets_tests.mixture.builders import folder

GROUPS = ("demo-step-000480", "demo-step-001.200")
COLUMNS = ["influence_datainf_sequence_piqa", "influence_datainf_sequence_boolq"]
scores32 = st.floats(-100, 100, width=32, allow_nan=False)
quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def write_scores(path: Path, columns: dict[str, list], ids: list[str] | None = None) -> Path:
    size = len(next(iter(columns.values())))
    ids = ids or [f"doc{row}" for row in range(size)]
    table = {"doc_id": pa.array(ids, pa.string()), "n_tokens": pa.array(range(1, size + 1), pa.int64())}
    table |= {name: pa.array(values, pa.float32()) for name, values in columns.items()}
    pq.write_table(pa.table(table), path)
    return path


@quick
@given(
    rows=st.lists(st.tuples(scores32, scores32, scores32), min_size=1, max_size=12),
    alpha=st.floats(0, 1),
    constants=st.none() | st.just({GROUPS[0]: Normalisation(0.5, 2.0), GROUPS[1]: Normalisation(-1.0, 0.25)}),
)
def test_joint_influence_is_the_blend_of_mean_utilities(rows, alpha, constants):
    first, second, third = (list(column) for column in zip(*rows, strict=True))
    with folder() as root:
        write_joint_shard(
            scores={
                GROUPS[0]: write_scores(
                    root / "a.parquet", {COLUMNS[0]: first, COLUMNS[1]: second, "influence_x": third}
                ),
                GROUPS[1]: write_scores(root / "b.parquet", {COLUMNS[0]: third}),
            },
            columns={GROUPS[0]: COLUMNS, GROUPS[1]: COLUMNS[:1]},
            alphas={GROUPS[1]: 1 - alpha, GROUPS[0]: alpha},
            constants=constants,
            out=root / "joint" / "shard-00000.parquet",
        )
        table = pl.read_parquet(root / "joint" / "shard-00000.parquet")
        assert [each.name for each in (root / "joint").iterdir()] == ["shard-00000.parquet"]
    names = [f"utility__{group}" for group in GROUPS]
    assert table.columns == ["doc_id", "n_tokens", *names, "joint_utility", "joint_influence"]
    assert table["doc_id"].to_list() == [f"doc{row}" for row in range(len(rows))]
    assert table.schema["n_tokens"] == pl.Int64
    scaling = constants or dict.fromkeys(GROUPS, Normalisation())
    for row, (a, b, c) in enumerate(rows):
        means = {GROUPS[0]: (a + b) / 2, GROUPS[1]: c}
        utility = {group: (-means[group] - scaling[group].center) / scaling[group].scale for group in GROUPS}
        joint = alpha * utility[GROUPS[0]] + (1 - alpha) * utility[GROUPS[1]]
        for group in GROUPS:
            assert table[f"utility__{group}"][row] == pytest.approx(utility[group], rel=1e-12, abs=1e-12)
        assert table["joint_utility"][row] == pytest.approx(joint, rel=1e-12, abs=1e-9)
        assert table["joint_influence"][row] == -table["joint_utility"][row]


def test_helpful_documents_have_positive_utility(tmp_path):
    path = write_scores(tmp_path / "a.parquet", {COLUMNS[0]: [-2.0, 0.0, 3.0]})
    write_joint_shard(
        scores={"g": path}, columns={"g": COLUMNS[:1]}, alphas={"g": 1.0}, constants=None, out=tmp_path / "o.parquet"
    )
    table = pl.read_parquet(tmp_path / "o.parquet")
    assert table["utility__g"].to_list() == [2.0, 0.0, -3.0]
    assert not np.signbit(table["utility__g"][1])
    assert table["joint_influence"].to_list() == [-2.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["doc0", "other", "doc2"], r"b\.parquet is not row-aligned .* row 1 has doc_id 'other'"),
        (["doc0"], "first differing row: 1"),
    ],
)
def test_files_that_are_not_row_aligned_are_refused(tmp_path, ids, message):
    scores = {
        "a": write_scores(tmp_path / "a.parquet", {COLUMNS[0]: [1.0, 2.0, 3.0]}),
        "b": write_scores(tmp_path / "b.parquet", {COLUMNS[0]: [1.0] * len(ids)}, ids),
    }
    with pytest.raises(AutomixerError, match=message):
        write_joint_shard(
            scores=scores,
            columns=dict.fromkeys(scores, COLUMNS[:1]),
            alphas=dict.fromkeys(scores, 0.5),
            constants=None,
            out=tmp_path / "o.parquet",
        )
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), (math.nan, "NaN"), (math.inf, "infinite")])
def test_a_score_that_is_no_number_is_refused_with_its_document(tmp_path, value, kind):
    path = write_scores(tmp_path / "a.parquet", {COLUMNS[0]: [1.0, 2.0, 3.0], COLUMNS[1]: [1.0, 2.0, value]})
    with pytest.raises(AutomixerError, match=rf"{kind} score for document 'doc2' \(row 2, group g\)"):
        write_joint_shard(
            scores={"g": path}, columns={"g": COLUMNS}, alphas={"g": 1.0}, constants=None, out=tmp_path / "o.parquet"
        )


def test_a_missing_score_column_is_named(tmp_path):
    path = write_scores(tmp_path / "a.parquet", {COLUMNS[0]: [1.0]})
    with pytest.raises(AutomixerError, match=f"has no column {COLUMNS[1]}"):
        write_joint_shard(
            scores={"g": path}, columns={"g": COLUMNS}, alphas={"g": 1.0}, constants=None, out=tmp_path / "o.parquet"
        )


def test_the_queries_behind_the_scores_are_recorded(tmp_path):
    scores = {}
    for group in ("a", "b"):
        scores[group] = write_scores(tmp_path / f"{group}.parquet", {COLUMNS[0]: [1.0, 2.0]})
        table = pq.read_table(scores[group])
        pq.write_table(table.replace_schema_metadata({"automixer.query": f"digest-{group}"}), scores[group])
    write_joint_shard(
        scores=scores,
        columns=dict.fromkeys(scores, COLUMNS[:1]),
        alphas=dict.fromkeys(scores, 0.5),
        constants=None,
        out=tmp_path / "o.parquet",
    )
    recorded = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[QUERIES])
    assert recorded == {"a": "digest-a", "b": "digest-b"}


def test_only_groups_that_a_document_is_a_candidate_of_are_blended():
    utilities = pa.table({"doc_id": ["a", "b"], "utility__g": [2.0, None], "utility__h": [None, 8.0]})
    blended = blend(utilities.replace_schema_metadata({PARTIAL_GROUPS: b"true"}), {"g": 0.25, "h": 0.5})
    assert blended["joint_utility"].to_pylist() == [0.5, 4.0]
    assert blended["utility__g"].to_pylist() == [2.0, None]
    nowhere = pa.table({"doc_id": ["a", "b"], "utility__g": pa.array([2.0, None])})
    with pytest.raises(AutomixerError, match=r"'b' \(row 1\) has no utility for any group"):
        blend(nowhere.replace_schema_metadata({PARTIAL_GROUPS: b"true"}), {"g": 1.0})


def test_scores_that_are_missing_for_one_group_are_named(tmp_path):
    there = write_scores(tmp_path / "a.parquet", {COLUMNS[0]: [1.0, 2.0]})
    with pytest.raises(
        AutomixerError, match=r"b\.parquet does not exist; materialise the influence of that checkpoint"
    ):
        write_joint_shard(
            scores=dict(zip(GROUPS, (there, tmp_path / "b.parquet"), strict=True)),
            columns=dict.fromkeys(GROUPS, COLUMNS[:1]),
            alphas=dict.fromkeys(GROUPS, 0.5),
            constants=None,
            out=tmp_path / "joint.parquet",
        )
