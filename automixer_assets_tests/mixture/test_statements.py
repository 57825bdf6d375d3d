"""Statements one by one against plain Python, where tests of the functions that run them do not compare every column.

Tables are random, with ties, nulls, negative and equal scores, groups of one row and documents without tokens.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.passes import passes_here
from automixer_assets.mixture.regroup import find_cuts, regroup
from automixer_assets.mixture.sql import run_sql
from automixer_assets_tests.mixture.builders import folder, joint_tables, utilities, write_joint
from automixer_assets_tests.mixture.reference import kept

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
tokens = st.sampled_from([0, 0, 1, 7]) | st.integers(0, 200_000)
kept_rows = st.lists(
    st.tuples(tokens, utilities, st.none() | utilities, st.none() | utilities), min_size=1, max_size=12
)


def exact_sum(values: list[tuple[float, int]]) -> float:
    """Sum of products, rounded once."""
    return float(sum((Fraction(value) * count for value, count in values), Fraction(0)))


@quick
@given(rows=kept_rows)
def test_memberships_are_sums_over_documents_in_the_same_groups(rows):
    names = ["n_tokens", "joint_utility", "kept__a-1", "kept__b.2"]
    types = [pa.int64(), pa.float64(), pa.float64(), pa.float64()]
    columns = [pa.array(column, type) for column, type in zip(zip(*rows, strict=True), types, strict=True)]
    found = run_sql("group_memberships", {}, kept_utilities=pa.table(columns, names)).to_pylist()
    by_set = defaultdict(list)
    for n_tokens, joint, *own in rows:
        total = sum(each for each in own if each is not None) if any(each is not None for each in own) else None
        by_set[tuple(each is not None for each in own)].append((n_tokens, joint, total))
    shard_lowest = min((total for each in by_set.values() for *_, total in each if total is not None), default=None)
    assert [(row["in__a-1"], row["in__b.2"]) for row in found] == sorted(by_set)
    for row in found:
        members = by_set[row["in__a-1"], row["in__b.2"]]
        totals = [total for *_, total in members if total is not None]
        assert (row["n_documents"], row["n_tokens"]) == (len(members), sum(each[0] for each in members))
        assert row["utility_tokens"] == pytest.approx(exact_sum([(u, n) for n, u, _ in members]), rel=1e-12, abs=1e-3)
        assert (row["lowest"], row["highest"]) == (min(totals, default=None), max(totals, default=None))
        assert row["shard_lowest"] == shard_lowest
        if totals:
            excess = exact_sum([(total - shard_lowest, n) for n, _, total in members])
            assert row["excess_tokens"] == pytest.approx(excess, rel=1e-12, abs=1e-3)
        else:
            assert row["excess_tokens"] is None


@quick
@given(table=joint_tables(), top_share=st.sampled_from([0.01, 0.5, 1.0]), first_row=st.integers(0, 2**40))
def test_buckets_are_sums_over_their_documents(table, top_share, first_row):
    groups, documents = table
    members = {group: kept(documents, group, math.ceil(round(top_share * len(documents), 9))) for group in groups}
    place = documents[0].place[:2]
    expected = defaultdict(list)
    for group in groups:
        for each in (each for each in members[group] if each.place[:2] == place):
            number = (first_row + each.row) % 2**32 * 2654435769 % 2**32 * 16 // 2**32
            expected[group, number].append(each)
    with folder() as root:
        regroup(joint=write_joint(root, documents, groups), top_share=top_share, out=root / "grouped")
        files = [each for each in list_selections(root / "grouped") if (each.snapshot, each.shard) == place]
        places = [{"file": str(each.path), "group": each.group} for each in files]
        parameters = {"files": [each["file"] for each in places], "groups": places}
        found = run_sql("density_buckets", {**parameters, "first_row": first_row, "buckets": 16}).to_pylist()
    assert [(row["group"], row["bucket"]) for row in found] == sorted(expected)
    for row in found:
        own = expected[row["group"], row["bucket"]]
        totals = [sum(each.utilities[group] for group in groups if each in members[group]) for each in own]
        assert (row["n_documents"], row["n_tokens"]) == (len(own), sum(each.n_tokens for each in own))
        joint = exact_sum([(each.joint_utility, each.n_tokens) for each in own])
        assert row["utility_tokens"] == pytest.approx(joint, rel=1e-12, abs=1e-6)
        total_tokens = exact_sum([(total, each.n_tokens) for total, each in zip(totals, own, strict=True)])
        assert row["total_tokens"] == pytest.approx(total_tokens, rel=1e-9, abs=1e-6)
        assert row["lowest_total"] == pytest.approx(min(totals), rel=1e-12, abs=1e-9)
        assert row["highest_total"] == pytest.approx(max(totals), rel=1e-12, abs=1e-9)


@quick
@given(table=joint_tables(), keep=st.integers(1, 24))
def test_a_group_ends_at_the_last_document_of_a_full_sort(table, keep):
    groups, documents = table
    keep = min(keep, len(documents))
    with folder() as root:
        passes = passes_here(write_joint(root, documents, groups))
        cuts = find_cuts(passes, dict.fromkeys(groups, keep), dict.fromkeys(groups, len(documents)))
    for group, cut in zip(groups, cuts, strict=True):
        last = kept(documents, group, keep)[-1]
        ties = [each for each in documents if each.utilities[group] == last.utilities[group]]
        assert (cut.group, cut.threshold) == (group, last.utilities[group])
        above = sum(each.utilities[group] > cut.threshold for each in documents)
        if above + len(ties) == keep:
            assert cut.doc_id is None
        else:
            assert (cut.doc_id, cut.snapshot, cut.shard, cut.row) == (last.doc_id, *last.place)


@quick
@example(values=[0.0, math.nan], shift=0, bounds=[0.0, 1.0])  # statistics of the file: 0 to 0
@given(
    values=st.lists(st.floats(allow_nan=True) | utilities | st.none(), min_size=1, max_size=40),
    shift=st.sampled_from([0, 16, 32, 48, 56]),
    bounds=st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)).map(sorted),
)
def test_buckets_of_utilities_hold_each_value_between_the_bounds_once(values, shift, bounds):
    lowest, highest = bounds
    inside = [each for each in values if each is not None and math.isfinite(each) and lowest <= each <= highest]
    with folder() as root:
        file = write_column(root / "shard.parquet", "utility__g", values)
        parameters = {"files": [file], "column": "utility__g", "lowest": lowest, "highest": highest, "shift": shift}
        found = run_sql("utility_histogram", parameters).to_pylist()
    assert sum(row["n_documents"] for row in found) == len(inside)
    assert [row["highest"] for row in found] == sorted((row["highest"] for row in found), reverse=True)
    for row in found:
        members = [each for each in inside if row["lowest"] <= each <= row["highest"]]
        assert (row["n_documents"], row["lowest"], row["highest"]) == (len(members), min(members), max(members))
    if shift == 0:
        assert len(found) == len(set(inside))


@quick
@given(
    values=st.lists(st.sampled_from([0.5, -1.0, None, math.nan, math.inf, -math.inf]), min_size=1, max_size=8),
    partial_groups=st.booleans(),
)
def test_the_first_utility_that_is_no_number_is_found_and_counted(values, partial_groups):
    with folder() as root:
        file = write_column(root / "shard.parquet", "joint_utility", values)
        totals = run_sql("candidate_totals", {"files": [file]}).to_pylist()
        found = run_sql("unusable_utilities", {"files": [file], "partial_groups": partial_groups}).to_pylist()
    bad = [row for row, value in enumerate(values) if value is None or not math.isfinite(value)]
    expected = {"n_candidates": len(values), "candidate_tokens": sum(range(len(values))), "n_unusable": len(bad)}
    assert totals == [expected]
    assert [(row["file"], row["row"], row["doc_id"], row["column_name"]) for row in found] == [
        (file, row, f"d{row}", "joint_utility") for row in bad[:1]
    ]


texts = st.lists(st.lists(st.tuples(st.sampled_from("xyz"), tokens), max_size=6), min_size=1, max_size=3)


@quick
@given(shards=texts)
def test_every_document_but_the_first_of_its_text_is_a_copy(shards):
    places = []
    with folder() as root:
        for number, rows in enumerate(shards):
            path = root / f"{number}.parquet"
            hashes, lengths = [text for text, _ in rows], [length for _, length in rows]
            table = {"content_hash": pa.array(hashes, pa.string()), "n_tokens": pa.array(lengths, pa.int64())}
            pq.write_table(pa.table(table), path)
            places.append({"file": str(path), "shard": f"shard-{number:05d}"})
        found = run_sql("exact_copies", {"files": [each["file"] for each in places], "shards": places}).to_pylist()
    first, expected = {}, []
    for number, rows in enumerate(shards):
        for row, (text, length) in enumerate(rows):
            place = (f"shard-{number:05d}", row)
            if first.setdefault(text, place) != place:
                expected.append((*place, length, *first[text]))
    assert [tuple(row.values()) for row in found] == expected


@quick
@given(ids=st.lists(st.lists(st.none() | st.sampled_from(["a", "b", "", "c"]), max_size=6), min_size=1, max_size=3))
def test_ids_that_occur_more_than_once_are_listed(ids):
    with folder() as root:
        for number, column in enumerate(ids):
            pq.write_table(pa.table({"id": pa.array(column, pa.string())}), root / f"{number}.parquet")
        files = [str(root / f"{number}.parquet") for number in range(len(ids))]
        found = run_sql("repeated_ids", {"files": files})["id"].to_pylist()
    present = [each for column in ids for each in column if each is not None]
    assert sorted(found) == sorted({each for each in present if present.count(each) > 1})


def write_column(path: Path, column: str, values: list[float | None]) -> str:
    """A joint shard with one utility column; n_tokens is the row's number."""
    ids = pa.array([f"d{row}" for row in range(len(values))], pa.string())
    table = {
        "doc_id": ids,
        "n_tokens": pa.array(range(len(values)), pa.int64()),
        column: pa.array(values, pa.float64()),
    }
    pq.write_table(pa.table(table), path)
    return str(path)
