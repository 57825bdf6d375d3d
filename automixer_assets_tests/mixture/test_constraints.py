"""From settings to an allocation: caps of groups, limits on documents, and what is refused."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.constraints import shared_contents
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.ledger import require_document_epochs, write_ledger
from automixer_assets.mixture.selected import selected_shards
from automixer_assets_tests.mixture.tiny import GROUPS, tiny_mixture

STOP: dict[str, Any] = {"exhaustion_policy": "stop_and_raise_others"}


def test_shared_contents_are_every_case_of_groups_and_copies(tmp_path):
    tiny = tiny_mixture(tmp_path)
    held: dict[str, Counter[str]] = {}
    for group in tiny.manifest.groups:
        for part in selected_shards(group, tmp_path, tiny.snapshots):
            for content in part.shard.documents["content_hash"].gather(part.documents["row"]):
                held.setdefault(content, Counter())[group.name] += 1
    found = shared_contents(list_selections(tmp_path / "grouped_shards" / "abc"), tiny.snapshots)
    assert {tuple(sorted(case.items())) for case in found} == {tuple(sorted(each.items())) for each in held.values()}
    assert len(found) == len({tuple(sorted(each.items())) for each in held.values()})
    assert max(max(case.values()) for case in found) == 2, "the tiny corpus has copies"


@pytest.mark.parametrize("limit", [0.8, 3.0])
def test_no_text_is_expected_to_be_read_more_often_than_its_limit(tmp_path, limit):
    tiny = tiny_mixture(tmp_path, max_document_epochs=limit, over_budget="hash_order", **STOP)
    summary = write_ledger(tiny.manifest, tmp_path / "grouped_shards" / "abc", tiny.snapshots, tmp_path)
    require_document_epochs(limit, tmp_path)
    tokens = max(group.n_tokens for group in tiny.manifest.groups)
    assert limit * (1 - 2 / tokens) * 0.9 <= summary.max_exposures <= limit * (1 + 1e-9)
    allocated = sum(group.allocated_tokens for group in tiny.manifest.groups)
    assert allocated + tiny.manifest.shortfall == tiny.manifest.token_budget
    assert tiny.manifest.shortfall > 0
    for group in tiny.manifest.groups:
        assert f"documents that are read {limit:g} times, held by" in (group.stopped_by or "")


def test_a_group_with_a_cap_of_its_own_stops_and_the_other_takes_the_rest(tmp_path):
    caps = {GROUPS[0]: {"epochs": 2.5, "tokens": 700}}
    tiny = tiny_mixture(tmp_path, group_caps=caps, over_budget="hash_order", **STOP)
    first, second = tiny.manifest.groups
    assert (first.allocated_tokens, first.stopped_by) == (700, "its cap of 700 tokens")
    assert (second.allocated_tokens, second.stopped_by) == (20_000 - 700, None)
    assert tiny.manifest.shortfall == 0
    assert tiny.manifest.options["mixture.group_caps"] == {GROUPS[0]: {"epochs": 2.5, "tokens": 700}}


def test_a_cap_of_no_group_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(AutomixerError, match=r"no group of the mixture; did you mean 'demo-step-000480'"):
        tiny_mixture(tmp_path, group_caps={"demo-step-00480": {"epochs": 1}}, **STOP)


def test_caps_that_leave_no_token_are_refused(tmp_path):
    with pytest.raises(
        AutomixerError, match=r"caps leave no token of any group .*its cap of 0.0001 epochs.*raise them"
    ):
        tiny_mixture(tmp_path, max_epochs=0.0001, **STOP)


def test_passes_of_a_sample_and_exposure_of_its_group_give_the_same_tokens(tmp_path):
    tiny = tiny_mixture(tmp_path, token_budget=901)
    for group in tiny.manifest.groups:
        assert Fraction(group.passes) * group.read_tokens == pytest.approx(group.exposure * group.n_tokens)
        assert 0 < group.passes <= 1
