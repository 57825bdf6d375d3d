from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture import passes as passes_module
from automixer_assets.mixture.groups import PARTIAL_GROUPS, list_selections
from automixer_assets.mixture.joint import QUERIES
from automixer_assets.mixture.regroup import kept_documents, regroup
from automixer_assets.mixture.weights import group_tables
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint
from automixer_assets_tests.mixture.reference import density, kept

quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def places(grouped: Path, group: str) -> set[tuple[str, str, int]]:
    return {
        (selection.snapshot, selection.shard, row)
        for selection in list_selections(grouped)
        if selection.group == group
        for row in pl.read_parquet(selection.path)["row"].to_list()
    }


def simple(values: list[float], snapshot: str = "A") -> list[Document]:
    return [
        Document(snapshot, "shard-00000", row, f"d{row}", 10, {"g": value}, value) for row, value in enumerate(values)
    ]


@quick
@given(table=joint_tables(), top_share=st.sampled_from([0.01, 0.3, 0.5, 0.75, 1.0]))
def test_each_group_keeps_exactly_the_top_share(table, top_share):
    groups, documents = table
    with folder() as root:
        regroup(joint=write_joint(root, documents, groups), top_share=top_share, out=root / "grouped")
        summaries = {row["group"]: row for row in pl.read_parquet(root / "grouped" / "groups.parquet").to_dicts()}
        overlap = pl.read_parquet(root / "grouped" / "overlap.parquet").to_dicts()
        found = {group: places(root / "grouped", group) for group in groups}
    keep = math.ceil(round(top_share * len(documents), 9))
    expected = {group: kept(documents, group, keep) for group in groups}
    assert list(summaries) == groups
    for group in groups:
        assert found[group] == {each.place for each in expected[group]}
        assert summaries[group]["n_documents"] == keep
        assert summaries[group]["n_tokens"] == sum(each.n_tokens for each in expected[group])
        assert summaries[group]["threshold"] == min(each.utilities[group] for each in expected[group])
        assert summaries[group]["n_candidates"] == len(documents)
        assert summaries[group]["candidate_tokens"] == sum(each.n_tokens for each in documents)
    assert [(row["group"], row["other"]) for row in overlap] == [(a, b) for a in groups for b in groups if a != b]
    for row in overlap:
        both = len(found[row["group"]] & found[row["other"]])
        assert (row["n_documents"], row["share"]) == (both, pytest.approx(both / keep))


@quick
@given(table=joint_tables())
def test_selection_files_carry_the_rows_of_the_joint_shard(table):
    groups, documents = table
    by_place = {each.place: each for each in documents}
    with folder() as root:
        joint = write_joint(root, documents, groups)
        regroup(joint=joint, top_share=0.5, out=root / "grouped")
        selections = list_selections(root / "grouped")
        assert len(selections) == len(groups) * len(joint)
        for selection in selections:
            rows = pl.read_parquet(selection.path)
            assert rows.columns == ["row", "doc_id", "n_tokens", "utility", "joint_utility"]
            assert rows["row"].to_list() == sorted(rows["row"].to_list())
            for row in rows.to_dicts():
                each = by_place[selection.snapshot, selection.shard, row["row"]]
                assert (row["doc_id"], row["n_tokens"]) == (each.doc_id, each.n_tokens)
                assert (row["utility"], row["joint_utility"]) == (each.utilities[selection.group], each.joint_utility)


@quick
@given(table=joint_tables(), data=st.data(), top_share=st.sampled_from([0.3, 0.5, 1.0]))
def test_a_group_chooses_among_the_documents_that_have_a_utility_for_it(table, data, top_share):
    groups, documents = table
    ranked = {each.place: data.draw(st.sets(st.sampled_from(groups), min_size=1)) for each in documents}
    candidates = {group: [each for each in documents if group in ranked[each.place]] for group in groups}
    partial = [
        replace(
            each, utilities={group: each.utilities[group] if group in ranked[each.place] else None for group in groups}
        )
        for each in documents
    ]
    with folder() as root:
        joint = write_joint(root, partial, groups, metadata={PARTIAL_GROUPS: b"true"})
        empty = [group for group in groups if not candidates[group]]
        if empty:
            with pytest.raises(AutomixerError, match=f"is a candidate of {', '.join(empty)}; take"):
                regroup(joint=joint, top_share=top_share, out=root / "grouped")
            return
        regroup(joint=joint, top_share=top_share, out=root / "grouped")
        summaries = {row["group"]: row for row in pl.read_parquet(root / "grouped" / "groups.parquet").to_dicts()}
        found = {group: places(root / "grouped", group) for group in groups}
        sums = {each.name: each for each in group_tables(root / "grouped")} if all_have_tokens(summaries) else {}
    for group, own in candidates.items():
        expected = kept(own, group, math.ceil(round(top_share * len(own), 9)))
        assert found[group] == {each.place for each in expected}
        assert summaries[group]["n_candidates"] == len(own)
        assert summaries[group]["candidate_tokens"] == sum(each.n_tokens for each in own)
        assert summaries[group]["threshold"] == min(each.utilities[group] for each in expected)
        if sums:
            assert sums[group].density == pytest.approx(density(expected))


def all_have_tokens(summaries: dict[str, dict]) -> bool:
    return all(row["n_tokens"] for row in summaries.values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_where_a_null_is_meant_a_nan_is_still_refused(tmp_path, value):
    utilities = [None, 0.5, value]
    documents = [replace(each, utilities={"g": utilities[each.row]}) for each in simple([1.0, 3.0, 2.0])]
    joint = write_joint(tmp_path, documents, ["g"], metadata={PARTIAL_GROUPS: b"true"})
    with pytest.raises(AutomixerError, match=r"utility__g for document 'd2' \(row 2\)"):
        regroup(joint=joint, top_share=0.5, out=tmp_path / "grouped")


def test_shards_that_mean_a_null_and_shards_that_do_not_are_refused_together(tmp_path):
    joint = write_joint(tmp_path, simple([1.0], "A"), ["g"])
    joint += write_joint(tmp_path, simple([1.0], "B"), ["g"], metadata={PARTIAL_GROUPS: b"true"})
    with pytest.raises(AutomixerError, match="do not agree on whether a null utility is meant"):
        regroup(joint=joint, top_share=0.5, out=tmp_path / "grouped")


def test_the_helpful_half_is_kept_and_a_flipped_sign_keeps_the_other_half(tmp_path):
    values = [3.0, -2.0, 1.0, -4.0, 2.0, -1.0]
    regroup(joint=write_joint(tmp_path / "u", simple(values), ["g"]), top_share=0.5, out=tmp_path / "helpful")
    flipped = simple([-value for value in values])
    regroup(joint=write_joint(tmp_path / "f", flipped, ["g"]), top_share=0.5, out=tmp_path / "harmful")
    assert {row for _, _, row in places(tmp_path / "helpful", "g")} == {0, 2, 4}
    assert {row for _, _, row in places(tmp_path / "harmful", "g")} == {1, 3, 5}


def test_equal_utilities_keep_exactly_half_by_doc_id_then_snapshot(tmp_path):
    documents = simple([1.0] * 5, "A") + simple([1.0] * 4, "B")
    regroup(joint=write_joint(tmp_path, documents, ["g"]), top_share=0.5, out=tmp_path / "grouped")
    assert places(tmp_path / "grouped", "g") == {
        (s, "shard-00000", row) for s, row in [("A", 0), ("B", 0), ("A", 1), ("B", 1), ("A", 2)]
    }


def test_bytes_depend_on_neither_threads_nor_the_order_of_shards(tmp_path, monkeypatch):
    documents = [
        Document(
            snapshot, "shard-00000", row, f"{snapshot}{row % 100}", row % 7, {"g": row % 5, "h": -row % 3}, row * 0.1
        )
        for snapshot in "AB"
        for row in range(3000)
    ]
    joint = write_joint(tmp_path, documents, ["g", "h"])
    regroup(joint=joint, top_share=0.37, out=tmp_path / "first")
    monkeypatch.setattr(passes_module, "THREADS", 1)
    regroup(joint=joint[::-1], top_share=0.37, out=tmp_path / "second")
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.parquet")}
        for name in ("first", "second")
    )
    assert first == second
    assert len(first) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_utility_that_is_no_number_is_refused_with_its_document(tmp_path, value):
    documents = [replace(each, utilities={"g": value if each.row == 1 else 0.5}) for each in simple([1.0, 3.0, 2.0])]
    joint = write_joint(tmp_path, documents, ["g"])
    with pytest.raises(AutomixerError, match=r"utility__g for document 'd1' \(row 1\)"):
        regroup(joint=joint, top_share=0.5, out=tmp_path / "grouped")


def test_shards_of_different_recipes_are_refused(tmp_path):
    joint = write_joint(tmp_path, simple([1.0]), ["g"])
    other = [Document("B", "shard-00000", 0, "d", 1, {"h": 1.0}, 1.0)]
    with pytest.raises(AutomixerError, match=r"utility columns \['utility__h'\] where"):
        regroup(joint=joint + write_joint(tmp_path, other, ["h"]), top_share=0.5, out=tmp_path / "grouped")


def test_snapshots_scored_with_different_queries_are_refused(tmp_path):
    joint = write_joint(tmp_path, simple([1.0, 2.0], "A") + simple([3.0], "B"), ["g"])
    for shard, query in zip(joint, ("old", "new"), strict=True):
        table = pq.read_table(shard.path)
        pq.write_table(table.replace_schema_metadata({QUERIES: json.dumps({"g": query})}), shard.path)
    with pytest.raises(AutomixerError, match=r"scored with the queries \{'g': 'new'\} but .* with \{'g': 'old'\}"):
        regroup(joint=joint, top_share=0.5, out=tmp_path / "grouped")


def test_a_group_may_keep_nothing_of_a_shard_and_a_single_document_of_all(tmp_path):
    documents = [
        replace(each, utilities={"g": each.joint_utility, "h": 0.0}) for each in simple([5.0], "A") + simple([7.0], "B")
    ]
    regroup(joint=write_joint(tmp_path, documents, ["g", "h"]), top_share=0.01, out=tmp_path / "grouped")
    assert places(tmp_path / "grouped", "g") == {("B", "shard-00000", 0)}
    assert places(tmp_path / "grouped", "h") == {("A", "shard-00000", 0)}
    sizes = {
        selection.group + selection.snapshot: pl.read_parquet(selection.path).height
        for selection in list_selections(tmp_path / "grouped")
    }
    assert sizes == {"gA": 0, "gB": 1, "hA": 1, "hB": 0}
    overlap = pl.read_parquet(tmp_path / "grouped" / "overlap.parquet")
    assert overlap["n_documents"].to_list() == [0, 0]


@pytest.mark.parametrize("threads", [1, 2])
def test_memberships_add_up_to_the_groups(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(passes_module, "THREADS", threads)
    documents = [
        Document(snapshot, "shard-00000", row, f"{snapshot}{row}", row % 7, {"g": row % 5, "h": -row % 3}, row * 0.1)
        for snapshot in "AB"
        for row in range(300)
    ]
    regroup(joint=write_joint(tmp_path, documents, ["g", "h"]), top_share=0.37, out=tmp_path / "grouped")
    sums = pl.read_parquet(tmp_path / "grouped" / "memberships.parquet")
    assert (sums["n_documents"].sum(), sums["n_tokens"].sum()) == (600, sum(each.n_tokens for each in documents))
    for group in "gh":
        members = {each.place: each for each in kept(documents, group, 222)}
        own = sums.filter(pl.col(f"in__{group}"))
        assert own["n_documents"].sum() == 222
        expected = math.fsum(each.joint_utility * each.n_tokens for each in members.values())
        assert own["utility_tokens"].sum() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "share", "keep"), [(30, 0.1, 3), (7, 0.5, 4), (1, 0.01, 1), (9, 1.0, 9)])
def test_the_share_is_taken_as_the_decimal_that_was_written(n, share, keep):
    assert kept_documents(n, share) == keep
