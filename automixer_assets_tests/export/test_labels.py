from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.export import FORMATS, load_format
from automixer_assets.export.labels import group_labels

KEYS = st.from_regex(r"[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True)


@given(st.sampled_from(list(FORMATS)), st.lists(KEYS, min_size=1, max_size=6, unique=True))
def test_every_group_gets_a_name_of_its_own_that_the_trainer_accepts(name, groups):
    format = load_format(name)
    labels = group_labels(groups, format)
    assert list(labels) == groups
    assert len(set(labels.values())) == len(groups)
    for group, label in labels.items():
        assert format.label_pattern.fullmatch(label)
        assert label == group or not format.label_pattern.fullmatch(group)


def test_a_replaced_name_never_takes_another_groups():
    format = load_format("megatron")
    assert group_labels(["_a", "group-_a", "group-_a-2"], format) == {
        "_a": "group-_a-3",
        "group-_a": "group-_a",
        "group-_a-2": "group-_a-2",
    }


def test_no_accepted_name_is_hidden_or_looks_like_an_option():
    for name in FORMATS:
        assert not any(
            re.match(r"[._-]", label) for label in group_labels(["-a", "_b", ".c"], load_format(name)).values()
        )
