"""Excluded documents take no part in the top share, and what is left keeps its places."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.candidates import Exclusions, restore_rows, without_copies, without_excluded
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.regroup import regroup
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint
from automixer_assets_tests.mixture.reference import kept

quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def write_exclusions(
    root: Path, documents: Sequence[Document], leaked: Collection[Document], removed: Collection[Document]
) -> Exclusions:
    """Folders as the assets write them."""
    for snapshot, shard in {(each.snapshot, each.shard) for each in documents}:
        rows = [each for each in documents if (each.snapshot, each.shard) == (snapshot, shard)]
        (root / "leakage" / snapshot).mkdir(parents=True, exist_ok=True)
        flags = {"doc_id": [each.doc_id for each in rows], "n_ngrams": [3 * (each in leaked) for each in rows]}
        pl.DataFrame(flags).write_parquet(root / "leakage" / snapshot / f"{shard}.parquet")
    snapshots = sorted({each.snapshot for each in documents})
    for snapshot in snapshots:
        # Two entries that name one document give two rows.
        rows = [(each.shard, each.row, each.doc_id) for each in removed if each.snapshot == snapshot for _ in range(2)]
        (root / "removed" / snapshot).mkdir(parents=True)
        schema = {"shard": pl.String, "row": pl.Int64, "doc_id": pl.String}
        pl.DataFrame(rows, schema, orient="row").write_parquet(root / "removed" / snapshot / "removed.parquet")
    return Exclusions({s: root / "leakage" / s for s in snapshots}, {s: root / "removed" / s for s in snapshots})


def grouped_without(
    root: Path, documents: Sequence[Document], groups: list[str], exclusions: Exclusions
) -> pl.DataFrame:
    """Regroup the candidates as the asset does, into `root/grouped`; returns the summary of exclusions."""
    candidates, summary = without_excluded(write_joint(root, documents, groups), exclusions, root / "scratch")
    regroup(joint=candidates, top_share=0.5, out=root / "grouped")
    restore_rows(root / "grouped", exclusions)
    return summary


@quick
@given(table=joint_tables(), data=st.data())
def test_groups_are_those_of_a_corpus_that_never_had_the_excluded(table, data):
    groups, documents = table
    pick = st.lists(st.sampled_from(documents), unique_by=lambda each: each.place, max_size=len(documents) - 1)
    leaked, removed = data.draw(pick), data.draw(pick)
    excluded = {each.place for each in (*leaked, *removed)}
    left = [each for each in documents if each.place not in excluded]
    if not left:
        return
    with folder() as root:
        summary = grouped_without(root, documents, groups, write_exclusions(root, documents, leaked, removed))
        by_place = {each.place: each for each in documents}
        for group in groups:
            found = []
            for selection in list_selections(root / "grouped"):
                if selection.group == group:
                    rows = pl.read_parquet(selection.path)
                    assert rows["row"].is_sorted()
                    for row, doc_id, utility in rows.select("row", "doc_id", "utility").iter_rows():
                        place = (selection.snapshot, selection.shard, row)
                        assert (by_place[place].doc_id, by_place[place].utilities[group]) == (doc_id, utility)
                        found.append(place)
            # Ties go by place too, and places keep their order when others are taken out.
            assert set(found) == {each.place for each in kept(left, group, math.ceil(len(left) / 2))}
    assert summary["n_documents"].sum() == len(excluded)
    assert summary["n_tokens"].sum() == sum(each.n_tokens for each in documents if each.place in excluded)


def some(n: int) -> list[Document]:
    return [Document("A", "shard-00000", row, f"d{row}", 10, {"g": float(row)}, 1.0) for row in range(n)]


def test_a_shard_without_excluded_documents_is_read_where_it_lies(tmp_path):
    documents = some(4)
    joint = write_joint(tmp_path, documents, ["g"])
    candidates, summary = without_excluded(joint, write_exclusions(tmp_path, documents, [], []), tmp_path / "scratch")
    assert (candidates, summary.height, (tmp_path / "scratch").exists()) == (joint, 0, False)


def test_a_document_that_is_leaked_and_removed_counts_once_as_removed(tmp_path):
    documents = some(4)
    exclusions = write_exclusions(tmp_path, documents, documents[2:], documents[3:])
    summary = grouped_without(tmp_path, documents, ["g"], exclusions)
    assert summary.rows() == [("A", "leaked", 1, 10), ("A", "removed", 1, 10)]


def test_rows_that_hold_other_documents_than_were_excluded_are_refused(tmp_path):
    documents = some(3)
    exclusions = write_exclusions(tmp_path, documents, documents[:1], [])
    for wrong in (documents[::-1], documents[1:]):
        joint = write_joint(tmp_path / str(len(wrong)), wrong, ["g"])
        with pytest.raises(AutomixerError, match="does not hold the documents that are to be excluded"):
            without_excluded(joint, exclusions, tmp_path / "scratch")


def test_a_mixture_whose_documents_are_all_excluded_is_refused(tmp_path):
    documents = some(3)
    with pytest.raises(AutomixerError, match="hold no documents to group"):
        grouped_without(tmp_path, documents, ["g"], write_exclusions(tmp_path, documents, documents, []))


@quick
@given(table=joint_tables(), hashes=st.lists(st.sampled_from("xyz"), min_size=24, max_size=24), data=st.data())
def test_of_equal_texts_the_first_that_is_not_removed_stays(table, hashes, data):
    _, documents = table
    content = {each.place: hashes[index] for index, each in enumerate(documents)}
    removed = data.draw(st.lists(st.sampled_from(documents), unique_by=lambda each: each.place, max_size=3))
    left: dict[str, Document] = {}
    for each in sorted(documents, key=lambda each: each.place):
        if each not in removed:
            left.setdefault(content[each.place], each)
    with folder() as root:
        paths = {}
        for place in {(each.snapshot, each.shard) for each in documents}:
            rows = [each for each in documents if (each.snapshot, each.shard) == place]
            paths[place] = root / "tokenized" / place[0] / f"{place[1]}.parquet"
            paths[place].parent.mkdir(parents=True, exist_ok=True)
            columns = {"doc_id": [e.doc_id for e in rows], "content_hash": [content[e.place] for e in rows]}
            pl.DataFrame(columns).write_parquet(paths[place])
        exclusions = without_copies(write_exclusions(root, documents, [], removed), paths, root / "scratch")
        found = {(*place, row): reason for place in paths for row, _, reason in exclusions.of(*place).iter_rows()}
    kept_places = {each.place for each in left.values()}
    assert set(found) == {each.place for each in documents} - kept_places
    assert {place for place, reason in found.items() if reason == "removed"} == {each.place for each in removed}
