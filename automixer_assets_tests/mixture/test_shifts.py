"""What moved between two versions of a mixture is split exactly over the snapshots that moved it."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.mixture.shifts import Shift, _threshold_shift, density_weights

utilities = st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-100, 100)), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), utilities, min_size=1), st.floats(-50, 50), st.floats(0.1, 1))
def test_the_parts_of_the_snapshots_sum_to_the_share_that_the_threshold_passed(
    tmp_path_factory: pytest.TempPathFactory, by_snapshot: dict[str, list[float]], before: float, top_share: float
):
    folder = tmp_path_factory.mktemp("joint")
    for name, values in by_snapshot.items():
        pl.DataFrame({"utility__g": values}).write_parquet(folder / f"{name}.parquet")
    joint = {name: [folder / f"{name}.parquet"] for name in by_snapshot}
    shift = _threshold_shift("g", before, 1.0, joint, top_share)
    every = [value for values in by_snapshot.values() for value in values]
    above = sum(value >= before for value in every)
    assert shift.moved == pytest.approx(above / len(every) - top_share)
    for name, values in by_snapshot.items():
        own = sum(value >= before for value in values) - top_share * len(values)
        assert shift.parts[name] == pytest.approx(own / len(every))


def test_density_weights_are_utility_per_token_normalised():
    memberships = pl.DataFrame(
        {
            "snapshot": ["a", "a", "b"],
            "in__g": [True, False, True],
            "in__h": [True, True, False],
            "n_tokens": [10, 30, 10],
            "utility_tokens": [20.0, 60.0, 60.0],
        }
    )
    weights = density_weights(memberships, ["g", "h"])
    assert weights == pytest.approx({"g": 4 / 6, "h": 2 / 6})
    assert density_weights(memberships.filter(pl.col("snapshot") == "b"), ["g", "h"]) is None, "h has no token in b"
    assert density_weights(memberships.with_columns(-pl.col("utility_tokens")), ["g"]) is None


def test_the_cause_is_the_largest_part_in_the_direction_of_the_shift_among_what_changed():
    shift = Shift("g", "weight", 0.2, 0.3, 0.1, {"old": 0.3, "new": 0.05, "other": 0.02, "against": -0.4})
    assert shift.cause(["new", "other", "against"]) == "new"
    assert shift.cause(["against"]) is None
    assert shift.cause([]) is None
