"""Agreement of two rankings against plain Python, and the documents that two mixtures share."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.answers.overlap import agreement
from automixer_assets.mixture.sql import run_sql
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint

quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
values = st.sampled_from([-1.0, 0.0, 0.5, 2.0, None])


def top(utilities: list[float | None], share: float) -> set[int]:
    candidates = [row for row, value in enumerate(utilities) if value is not None]
    keep = math.ceil(round(share * len(candidates), 9))
    return set(sorted(candidates, key=lambda row: (-(utilities[row] or 0.0), row))[:keep])


def spearman(pairs: list[tuple[float, float]]) -> float:
    """Pearson's correlation of mid-ranks."""
    sides = list(zip(*pairs, strict=True))
    ranks = [[sum(b < a for b in side) + sum(b == a for b in side) / 2 for a in side] for side in sides]
    means = [math.fsum(side) / len(side) for side in ranks]
    first, second = ([rank - mean for rank in side] for side, mean in zip(ranks, means, strict=True))
    norm = math.sqrt(math.fsum(a * a for a in first) * math.fsum(b * b for b in second))
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / norm


@quick
@given(rows=st.lists(st.tuples(values, values), min_size=2, max_size=25), share=st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_agreement_is_that_of_two_sets_and_of_mid_ranks(rows, share):
    first, second = ([row[side] for row in rows] for side in (0, 1))
    if all(value is None for value in first) or all(value is None for value in second):
        return
    series = [pl.Series(side, dtype=pl.Float64) for side in (first, second)]
    found = agreement("a", "b", series[0], series[1], share)
    mine, theirs = top(first, share), top(second, share)
    assert (found.n_first, found.n_second, found.n_both) == (len(mine), len(theirs), len(mine & theirs))
    assert found.overlap == pytest.approx(len(mine & theirs) / len(mine))
    assert found.by_chance == pytest.approx(len(theirs) / len(rows))
    pairs = [(a, b) for a, b in rows if a is not None and b is not None]
    if len({a for a, _ in pairs}) > 1 and len({b for _, b in pairs}) > 1:
        assert found.rank_correlation == pytest.approx(spearman(pairs))
    else:
        assert found.rank_correlation is None


def shards(root: Path, documents: list[Document], groups: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    written = write_joint(root, documents, groups)
    places = [{"file": str(shard.path), "snapshot": shard.snapshot} for shard in written]
    return [place["file"] for place in places], places


@quick
@given(first=joint_tables(), second=joint_tables(), highest=st.sampled_from([2**64 - 1, 2**63, 0]))
def test_documents_of_both_mixtures_are_laid_side_by_side(first, second, highest):
    with folder() as root:
        parameters = {}
        for side, (groups, documents) in (("first", first), ("second", second)):
            parameters[side], parameters[f"{side}_shards"] = shards(root / side, documents, groups)
        found = run_sql("shared_utilities", {**parameters, "highest_draw": highest})
    by_place = [{(each.snapshot, each.doc_id): each for each in documents} for _, documents in (first, second)]
    shared = sorted(by_place[0].keys() & by_place[1].keys(), key=lambda place: (place[1], place[0]))
    names = [f"{side}__utility__{g}" for side, (gs, _) in (("first", first), ("second", second)) for g in gs]
    assert set(found.column_names) == {*names, "first__joint_utility", "second__joint_utility"}
    assert found.num_rows <= len(shared)
    if highest == 2**64 - 1:
        assert found["first__joint_utility"].to_pylist() == [by_place[0][place].joint_utility for place in shared]
        group = second[0][0]
        utilities = [by_place[1][place].utilities[group] for place in shared]
        assert found[f"second__utility__{group}"].to_pylist() == utilities
    if highest == 0:
        assert found.num_rows == 0
