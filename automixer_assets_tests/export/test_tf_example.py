from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.export.tf_example import encode_examples
from automixer_assets_tests.export.readers import read_example

EDGES = [0, 1, 127, 128, 255, 2**14 - 1, 2**14, 2**16 - 1, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31, 2**32 - 1]


@given(st.lists(st.lists(st.sampled_from(EDGES) | st.integers(0, 2**32 - 1), min_size=3, max_size=3), min_size=1))
def test_every_id_is_read_back(sequences):
    records = encode_examples(np.array(sequences, "<u4"), "text")
    assert [read_example(record) for record in records] == [{"text": ids} for ids in sequences]


@pytest.mark.parametrize("length", [1, 40, 200, 5000, 40_000])
def test_lengths_of_any_width_are_read_back(length):
    ids = np.arange(length, dtype="<u2")
    (record,) = encode_examples(ids[None], "inputs")
    assert read_example(record) == {"inputs": ids.tolist()}
