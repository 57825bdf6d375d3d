"""Tiny real inputs: joint shards, tokenised snapshots and grouped folders, written as the assets write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized, write_header
from automixer_assets.mixture.groups import UTILITY_PREFIX
from automixer_assets.mixture.passes import JointShard, LocalPasses, in_order


@dataclass(frozen=True)
class Document:
    """A row of a joint_influence shard, with where it lies."""

    snapshot: str
    shard: str
    row: int
    doc_id: str
    n_tokens: int
    utilities: dict[str, float]
    joint_utility: float

    @property
    def place(self) -> tuple[str, str, int]:
        return self.snapshot, self.shard, self.row


@contextmanager
def folder() -> Iterator[Path]:
    """A folder per hypothesis example (pytest's tmp_path is shared between examples)."""
    with TemporaryDirectory() as name:
        yield Path(name)


def write_joint(
    root: Path, documents: Sequence[Document], groups: Sequence[str], metadata: dict[bytes, bytes] | None = None
) -> list[JointShard]:
    """joint_influence shards of the documents, which come in (snapshot, shard, row) order."""
    shards = []
    for snapshot, shard in dict.fromkeys((each.snapshot, each.shard) for each in documents):
        rows = [each for each in documents if (each.snapshot, each.shard) == (snapshot, shard)]
        columns: dict[str, pa.Array] = {
            "doc_id": pa.array([each.doc_id for each in rows], pa.string()),
            "n_tokens": pa.array([each.n_tokens for each in rows], pa.int64()),
        }
        for group in groups:
            columns[UTILITY_PREFIX + group] = pa.array([each.utilities[group] for each in rows], pa.float64())
        columns["joint_utility"] = pa.array([each.joint_utility for each in rows], pa.float64())
        columns["joint_influence"] = pa.array([0 - each.joint_utility for each in rows], pa.float64())
        path = root / "joint" / snapshot / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
        shards.append(JointShard(snapshot, shard, path))
    return shards


def in_parts(joint: Sequence[JointShard], sizes: Sequence[int]) -> LocalPasses:
    """Passes over parts of so many shards each."""
    shards = in_order(joint)
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    assert ends[-1] == len(shards)
    return LocalPasses(shards, [shards[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def write_tokenized(
    root: Path, snapshot: str, shards: Mapping[str, Sequence[tuple[str, str, Sequence[int]]]], digest: str = "tok"
) -> TokenizedSnapshot:
    """A tokenised snapshot from shard -> [(doc_id, content_hash, token ids)]."""
    target = root / "tokenized" / snapshot
    target.mkdir(parents=True, exist_ok=True)
    for shard, documents in shards.items():
        lengths = np.array([len(tokens) for _, _, tokens in documents], dtype=np.int64)
        table = {
            "doc_id": pa.array([doc_id for doc_id, _, _ in documents], pa.string()),
            "content_hash": pa.array([content for _, content, _ in documents], pa.string()),
            "n_tokens": pa.array(lengths, pa.int64()),
            "offset": pa.array(np.cumsum(lengths) - lengths, pa.int64()),
        }
        pq.write_table(pa.table(table), target / f"{shard}.parquet")
        ids = [token for _, _, tokens in documents for token in tokens]
        np.array(ids, dtype="<u2").tofile(target / f"{shard}.bin")
    write_header(
        target,
        snapshot=snapshot,
        dtype="<u2",
        tokenizer_digest=digest,
        end_of_document=0,
        vocab_size=65536,
        shards=list(shards),
    )
    return open_tokenized(target)


@st.composite
def partitions(draw: st.DrawFn, n_shards: int) -> list[int]:
    """How many shards each part has; every one at least one."""
    sizes = []
    while (left := n_shards - sum(sizes)) > 0:
        sizes.append(draw(st.integers(1, left)))
    return sizes


# Few distinct values, so that ties, zeros of both signs and equal columns are common.
utilities = st.one_of(
    st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0]), st.floats(-1e6, 1e6, allow_nan=False, width=32).map(float)
)


@st.composite
def joint_tables(draw: st.DrawFn, *, zero_tokens: bool = True) -> tuple[list[str], list[Document]]:
    """Groups and documents over up to two snapshots of up to two shards; the same doc_id may be in both snapshots."""
    groups = draw(st.sampled_from([["demo-step-000480"], ["b.2", "a-1"], ["demo-step-000480", "x", "corpus"]]))
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(sum))
    constant = draw(st.booleans()) and draw(st.booleans())
    documents = []
    for index, size in enumerate(sizes):
        snapshot, shard = "BA"[index // 2], f"shard-{index % 2:05d}"
        ids = draw(st.permutations([f"d{index % 2}{number}" for number in range(size)]))
        for row, doc_id in enumerate(ids):
            scores = {group: 1.0 if constant else draw(utilities) for group in groups}
            tokens = draw(st.integers(0 if zero_tokens else 1, 30))
            documents.append(Document(snapshot, shard, row, doc_id, tokens, scores, draw(utilities)))
    return groups, sorted(documents, key=lambda each: each.place)
