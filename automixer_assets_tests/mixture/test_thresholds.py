from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture import thresholds
from automixer_assets.mixture.passes import JointShard, passes_here
from automixer_assets.mixture.thresholds import Rank, RankedUtility, utilities_at_ranks
from automixer_assets_tests.mixture.builders import folder, in_parts, partitions

doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),  # subnormal ones and both zeros, too
    st.sampled_from([0.0, -0.0, 1.0, math.nextafter(1.0, 2.0), -1.0, -1.7e308, 1.7e308, 5e-324, -5e-324]),
    st.floats(1000, 1001),
)


def write_column(root, shards: list[list[float | None]]) -> list[JointShard]:
    written = []
    for number, values in enumerate(shards):
        path = root / f"shard-{number}.parquet"
        utilities = pa.array(values, pa.float64())
        ids = pa.array([f"d{number}-{row}" for row in range(len(values))], pa.string())
        table = {"doc_id": ids, "n_tokens": [1] * len(values), "utility__a-1.b": utilities, "joint_utility": utilities}
        pq.write_table(pa.table(table), path)
        written.append(JointShard("A", path.stem, path))
    return written


def utility_at_rank(passes, column: str, rank: int, total: int) -> RankedUtility:
    (found,) = utilities_at_ranks(passes, [Rank(column, rank, total)])
    return found


def reference(values: list[float], rank: int) -> RankedUtility:
    utility = sorted(values, reverse=True)[rank - 1]
    return RankedUtility(utility, sum(each > utility for each in values), values.count(utility))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shards=st.lists(st.lists(doubles, max_size=12), min_size=1, max_size=3).filter(any), data=st.data())
@pytest.mark.parametrize("ranked_documents", [0, 3, thresholds.RANKED_DOCUMENTS])
def test_the_utility_at_any_rank_is_that_of_a_full_sort(ranked_documents, shards, data):
    values = [each for shard in shards for each in shard]
    rank = data.draw(st.integers(1, len(values)))
    parts = data.draw(partitions(len(shards)))
    with folder() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "RANKED_DOCUMENTS", ranked_documents)
        passes = in_parts(write_column(root, shards), parts)
        assert utility_at_rank(passes, "utility__a-1.b", rank, len(values)) == reference(values, rank)


def test_ranks_of_several_columns_share_passes_and_keep_their_order(tmp_path):
    passes = passes_here(write_column(tmp_path, [[3.0, 1.0], [2.0, 2.0]]))
    ranks = [Rank("utility__a-1.b", 4, 4), Rank("joint_utility", 1, 4), Rank("utility__a-1.b", 2, 4)]
    assert [each.utility for each in utilities_at_ranks(passes, ranks)] == [1.0, 3.0, 2.0]


@pytest.mark.parametrize("parts", [[3], [1, 2], [1, 1, 1]])
def test_a_zero_is_never_negative(tmp_path, parts):
    passes = in_parts(write_column(tmp_path, [[-0.0], [0.0], [-0.0]]), parts)
    found = utility_at_rank(passes, "utility__a-1.b", 2, 3)
    assert (found.n_above, found.n_tied, math.copysign(1, found.utility)) == (0, 3, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_utility_that_is_no_number_is_named(tmp_path, value):
    shards = write_column(tmp_path, [[1.0, 2.0], [3.0, value], [value]])
    for parts in ([3], [1, 2], [1, 1, 1]):
        with pytest.raises(AutomixerError, match=r"'d1-1' \(row 1\)"):
            utility_at_rank(in_parts(shards, parts), "utility__a-1.b", 1, 5)


def test_a_rank_beyond_the_documents_is_refused(tmp_path):
    with pytest.raises(AutomixerError, match="no rank 3 among 2"):
        utility_at_rank(passes_here(write_column(tmp_path, [[1.0, 2.0]])), "utility__a-1.b", 3, 2)
