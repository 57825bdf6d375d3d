from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.percentiles import PERCENTILES, write_percentile_ranges
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint

Quality = tuple[float | None, int | None]


def write_documents(root: Path, documents: list[Document], quality: list[Quality]) -> dict[tuple[str, str], Path]:
    """Tokenised shards with `score` and `int_score`, but no `language_score`."""
    paths = {}
    for place in dict.fromkeys((each.snapshot, each.shard) for each in documents):
        rows = [
            (each, values)
            for each, values in zip(documents, quality, strict=True)
            if (each.snapshot, each.shard) == place
        ]
        table = {
            "doc_id": pa.array([each.doc_id for each, _ in rows], pa.string()),
            "score": pa.array([values[0] for _, values in rows], pa.float64()),
            "int_score": pa.array([values[1] for _, values in rows], pa.int64()),
        }
        paths[place] = root / "-".join(place)
        pq.write_table(pa.table(table), paths[place])
    return paths


def mean(values: list) -> float | None:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=joint_tables(), data=st.data())
def test_ranges_agree_with_plain_python(table, data):
    groups, documents = table
    scores = st.tuples(st.none() | st.floats(0, 5), st.none() | st.integers(0, 5))
    quality = [data.draw(scores) for _ in documents]
    with folder() as root:
        out = root / "percentile_ranges.parquet"
        joint = write_joint(root, documents, groups)
        write_percentile_ranges(joint=joint, documents=write_documents(root, documents, quality), out=out)
        found = pl.read_parquet(out).to_dicts()
    ordered = sorted(each.joint_utility for each in documents)
    edges = [-math.inf] + [ordered[math.ceil(p * len(ordered) / 100) - 1] for p in PERCENTILES[1:]]
    assert [row["range"] for row in found] == [f"p{low:02d}-{high:02d}" for low, high in pairwise(PERCENTILES)]
    assert sum(row["n_documents"] for row in found) == len(documents)
    for row, (lower, upper) in zip(found, pairwise(edges), strict=True):
        inside = [
            (each, values)
            for each, values in zip(documents, quality, strict=True)
            if lower < each.joint_utility <= upper
        ]
        assert (row["lower"], row["upper"]) == (None if math.isinf(lower) else lower, upper)
        assert (row["n_documents"], row["sum_tokens"]) == (len(inside), sum(each.n_tokens for each, _ in inside))
        assert row["mean_tokens"] == pytest.approx(mean([each.n_tokens for each, _ in inside]))
        assert row["mean_score"] == pytest.approx(mean([values[0] for _, values in inside]))
        assert row["mean_int_score"] == pytest.approx(mean([values[1] for _, values in inside]))
        assert row["mean_language_score"] is None


@pytest.mark.parametrize("ids", [["d0", "other", "d2"], ["d0", "d1"]])
def test_documents_of_another_shard_are_refused(tmp_path, ids):
    documents = [Document("A", "shard-00000", row, f"d{row}", 5, {"g": 1.0}, float(row)) for row in range(3)]
    joint = write_joint(tmp_path, documents, ["g"])
    path = tmp_path / "documents.parquet"
    pq.write_table(pa.table({"doc_id": ids}), path)
    with pytest.raises(AutomixerError, match="1 rows have different doc_ids"):
        write_percentile_ranges(joint=joint, documents={("A", "shard-00000"): path}, out=tmp_path / "o.parquet")
