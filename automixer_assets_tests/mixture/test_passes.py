"""However shards are divided into parts, the files are those of one part."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.launch.job import Job, OnDone, run_here
from automixer_assets.launch.passes import TaskPasses, named_parts
from automixer_assets.mixture import thresholds
from automixer_assets.mixture.groups import PARTIAL_GROUPS
from automixer_assets.mixture.passes import JointShard, PassesOver, in_order, passes_here
from automixer_assets.mixture.percentiles import write_percentile_ranges
from automixer_assets.mixture.regroup import regroup
from automixer_assets_tests.mixture.builders import Document, folder, in_parts, joint_tables, partitions, write_joint
from automixer_assets_tests.mixture.test_percentiles import Quality, write_documents

EMPTY = "shard-00009"
Metadata = dict[bytes, bytes] | None
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def grouped(joint: list[JointShard], paths: dict, top_share: float, out: Path, over: PassesOver) -> dict[str, bytes]:
    """Bytes of every file of groups and percentile ranges."""
    regroup(joint=joint, top_share=top_share, out=out, passes_over=over)
    write_percentile_ranges(joint=joint, documents=paths, out=out / "percentile_ranges.parquet", passes_over=over)
    return contents(out)


def with_empty(root: Path, documents: list[Document], groups: list[str], metadata: Metadata) -> list[JointShard]:
    """A shard without documents, between or behind the others."""
    (shard,) = write_joint(root, [replace(documents[0], shard=EMPTY)], groups, metadata)
    pq.write_table(pq.read_table(shard.path).slice(0, 0), shard.path)
    return [shard]


@quick
@given(
    table=joint_tables(),
    top_share=st.sampled_from([0.01, 0.3, 0.5, 0.75, 1.0]),
    ranked_documents=st.sampled_from([0, 2, thresholds.RANKED_DOCUMENTS]),
    data=st.data(),
)
def test_parts_change_no_byte(table, top_share, ranked_documents, data):
    groups, documents = table
    partial = data.draw(st.booleans())
    if partial:  # every group keeps a candidate: the first document
        unranked = [data.draw(st.sets(st.sampled_from(groups), max_size=len(groups) - 1)) for _ in documents[1:]]
        documents = documents[:1] + [
            replace(each, utilities={group: None if group in none else each.utilities[group] for group in groups})
            for each, none in zip(documents[1:], unranked, strict=True)
        ]
    quality: list[Quality] = [(float(row), row % 3) for row, _ in enumerate(documents)]
    with folder() as root:
        metadata: Metadata = {PARTIAL_GROUPS: b"true"} if partial else None
        joint = write_joint(root, documents, groups, metadata) + with_empty(root, documents, groups, metadata)
        paths = write_documents(root, documents, quality)
        paths |= {(shard.snapshot, shard.shard): shard.path for shard in joint if shard.shard == EMPTY}
        parts = data.draw(partitions(len(joint)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(thresholds, "RANKED_DOCUMENTS", ranked_documents)
            divided = grouped(joint, paths, top_share, root / "divided", lambda shards: in_parts(shards, parts))
        assert divided == grouped(joint, paths, top_share, root / "whole", passes_here)


def run_twice(job: Job, tasks: Mapping[str, Any], on_done: OnDone) -> None:
    """As elsewhere: what arrives was pickled, and each task is done by one that dies before it says so, then again."""
    travelled, luggage = pickle.loads(pickle.dumps((job, dict(tasks))))
    run_here(travelled, luggage, lambda name: None)
    run_here(job, tasks, on_done)


@quick
@given(table=joint_tables(), top_share=st.sampled_from([0.01, 0.5, 1.0]), n_parts=st.integers(1, 6))
def test_tasks_that_answer_in_files_change_no_byte(table, top_share, n_parts):
    groups, documents = table
    with folder() as root:
        joint = write_joint(root, documents, groups) + with_empty(root, documents, groups, None)
        paths = write_documents(root, documents, [(0.1 * row, None) for row, _ in enumerate(documents)])
        paths |= {(shard.snapshot, shard.shard): shard.path for shard in joint if shard.shard == EMPTY}
        (root / "scratch").mkdir()

        def by_tasks(shards: Sequence[JointShard]) -> TaskPasses:
            return TaskPasses(in_order(shards), named_parts(in_order(shards), n_parts), run_twice, root / "scratch")

        found = grouped(joint, paths, top_share, root / "tasks", by_tasks)
        assert found == grouped(joint, paths, top_share, root / "whole", passes_here)


def test_parts_have_about_as_many_documents_each_and_are_named_by_their_ends(tmp_path):
    documents = [
        Document(snapshot, f"shard-{shard:05d}", row, f"{row}", 1, {"g": 0.0}, 0.0)
        for snapshot, shard, size in [("A", 0, 5), ("A", 1, 1), ("A", 2, 4), ("B", 0, 9), ("B", 1, 1)]
        for row in range(size)
    ]
    shards = in_order(write_joint(tmp_path, documents, ["g"]))
    assert list(named_parts(shards, 2)) == ["A/shard-00000 to A/shard-00002", "B/shard-00000 to B/shard-00001"]
    assert len(named_parts(shards, 1)) == 1
    for n_parts in range(1, 30):
        parts = [task.part for task in named_parts(shards, n_parts).values()]
        assert [shard for part in parts for shard in part] == shards
        assert len(parts) <= n_parts
