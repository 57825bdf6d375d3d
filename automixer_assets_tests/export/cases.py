"""Mixtures to export: source texts, tokenised shards and selections as the assets write them, weights as wanted.

Token ids tell the group: those of group i lie in [GROUP_IDS * (i + 1), GROUP_IDS * (i + 2)), except the id 0 that ends
each document. Every group's documents are scattered over the shards, and some documents belong to no group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized, write_header
from automixer_assets.lake import file_sha256
from automixer_assets.mixture.budget import allocate
from automixer_assets.mixture.manifest import (
    CreatedBy,
    Manifest,
    ManifestGroup,
    ManifestPhase,
    ManifestShard,
    manifest_digest,
)

GROUP_IDS = 1000
SNAPSHOTS = ("2026-01", "2026-02")
SHARDS = ("shard-00000", "shard-00001")
LEFT_OUT = 7
"""Every so many documents of a shard, one belongs to no group."""


@dataclass(frozen=True)
class Wanted:
    """A group to make: its weight, and its documents of `length` tokens each (end-of-document id included)."""

    name: str
    weight: float
    n_documents: int
    length: int


@dataclass(frozen=True)
class Case:
    """What `export_mixture` reads."""

    manifest: Manifest
    root: Path
    snapshots: dict[str, TokenizedSnapshot]
    corpus: Path

    def options(self) -> dict[str, Any]:
        return {
            "manifest": self.manifest,
            "lake_root": self.root,
            "snapshots": self.snapshots,
            "corpus": self.corpus,
        }

    def group_of(self, token: int) -> str | None:
        """The group that a token id belongs to; None for an end-of-document id."""
        return None if token == 0 else self.manifest.groups[token // GROUP_IDS - 1].name

    def token_shares(self, ids: np.ndarray) -> dict[str, float]:
        """Share of each group among ids; end-of-document ids do not count."""
        owners = ids[ids != 0] // GROUP_IDS - 1
        counts = np.bincount(owners.astype(np.int64), minlength=len(self.manifest.groups))
        return {g.name: float(n) / len(owners) for g, n in zip(self.manifest.groups, counts, strict=True)}

    def texts(self, group: str) -> dict[str, str]:
        """Texts of a group's documents by id, in the corpus's order."""
        return {doc_id: text for doc_id, text in self._documents() if doc_id.startswith(f"{group}/")}

    def _documents(self) -> list[tuple[str, str]]:
        tables = [pl.read_parquet(path, columns=["id", "text"]) for path in sorted(self.corpus.rglob("*.parquet"))]
        return [row for table in tables for row in table.rows()]


STANDARD = (Wanted("short", 0.2, 600, 10), Wanted("long", 0.5, 400, 100), Wanted("tiny", 0.3, 40, 50))
"""Documents of very different length; the third group runs out many times over."""


def make_case(
    root: Path,
    groups: Sequence[Wanted] = STANDARD,
    *,
    token_budget: int = 100_000,
    exhaustion_policy: Literal["repeat", "stop_and_raise_others"] = "repeat",
    max_epochs: float | None = None,
    vocab_size: int = 60_000,
    text_of: Callable[[Wanted, int], str] | None = None,
    row_group_size: int = 37,
) -> Case:
    """Write a corpus of two snapshots of two shards, and the manifest of a mixture of it.

    `text_of(group, number)` gives the documents' texts where the standard ones will not do.
    """
    rng = np.random.default_rng(11)
    documents = [(index, number) for index, group in enumerate(groups) for number in range(group.n_documents)]
    documents = [documents[i] for i in rng.permutation(len(documents))]
    places = [(snapshot, shard) for snapshot in SNAPSHOTS for shard in SHARDS]
    shards = {place: documents[i :: len(places)] for i, place in enumerate(places)}
    dtype = "<u2" if vocab_size <= 2**16 else "<u4"
    snapshots = {}
    for snapshot in SNAPSHOTS:
        rows = {shard: shards[snapshot, shard] for shard in SHARDS}
        snapshots[snapshot] = _write_snapshot(
            root, snapshot, rows, groups, dtype, vocab_size, text_of or _text, row_group_size
        )
    selections = [_select(root, snapshots, index, group) for index, group in enumerate(groups)]
    manifest = _manifest(groups, selections, token_budget, exhaustion_policy, max_epochs)
    return Case(manifest, root, snapshots, root / "corpus")


def _write_snapshot(
    root: Path,
    snapshot: str,
    shards: dict[str, list[tuple[int, int]]],
    groups: Sequence[Wanted],
    dtype: str,
    vocab_size: int,
    text_of: Callable[[Wanted, int], str],
    row_group_size: int,
) -> TokenizedSnapshot:
    folder = root / "tokenized" / snapshot
    folder.mkdir(parents=True)
    for shard, members in shards.items():
        source = f"data/{shard}.parquet"
        rows = [_document(groups, index, number, source, text_of) for index, number in members]
        rows = [
            each for i, row in enumerate(rows) for each in ([_stray(i, source), row] if i % LEFT_OUT == 0 else [row])
        ]
        table = pl.DataFrame(rows).with_columns(row=pl.int_range(len(rows), dtype=pl.Int64))
        path = root / "corpus" / snapshot / source
        path.parent.mkdir(parents=True, exist_ok=True)
        sources = table.select(pl.col("doc_id").alias("id"), "text", "url").to_arrow()
        pq.write_table(sources.cast(_plain(sources.schema)), path, row_group_size=row_group_size)
        lengths = table["n_tokens"]
        table = table.with_columns((lengths.cum_sum() - lengths).alias("offset"))
        table.drop("text", "ids").write_parquet(folder / f"{shard}.parquet")
        ids = np.concatenate([np.asarray(each, dtype=dtype) for each in table["ids"].to_list()])
        ids.tofile(folder / f"{shard}.bin")
    write_header(
        folder,
        snapshot=snapshot,
        dtype=dtype,
        tokenizer_digest="tokenizer-of-the-mixture",
        end_of_document=0,
        vocab_size=vocab_size,
        shards=list(shards),
    )
    return open_tokenized(folder)


def _document(
    groups: Sequence[Wanted], index: int, number: int, source: str, text_of: Callable[[Wanted, int], str]
) -> dict[str, Any]:
    group = groups[index]
    ids = [GROUP_IDS * (index + 1) + (number * 31 + i) % GROUP_IDS for i in range(group.length - 1)]
    return _row(f"{group.name}/{number:05d}", text_of(group, number), [*ids, 0], source)


def _text(group: Wanted, number: int) -> str:
    return f"{group.name} document {number}: 東京" + " word" * (group.length - 1)


def _stray(number: int, source: str) -> dict[str, Any]:
    return _row(f"no-group/{number}", f"nobody selects {number}", [59_999, 0], source)


def _row(doc_id: str, text: str, ids: list[int], source: str) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "file": source,
        "content_hash": xxhash.xxh3_128_hexdigest(text.encode()),
        "url": f"https://example.org/{doc_id}",
        "n_tokens": len(ids),
        "text": text,
        "ids": ids,
    }


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, pa.string()) for field in schema])


def _select(root: Path, snapshots: dict[str, TokenizedSnapshot], index: int, group: Wanted) -> list[ManifestShard]:
    found = []
    for snapshot in snapshots.values():
        for shard in snapshot.shards:
            chosen = shard.documents.filter(pl.col("doc_id").str.starts_with(f"{group.name}/"))
            if chosen.is_empty():
                continue
            uri = f"grouped_shards/abc/groups/{group.name}/{snapshot.snapshot}/{shard.name}.parquet"
            path = root / uri
            path.parent.mkdir(parents=True, exist_ok=True)
            chosen.select("row", "doc_id", "n_tokens", utility=pl.lit(1.0), joint_utility=pl.lit(1.0)).write_parquet(
                path
            )
            counts = {"n_documents": chosen.height, "n_tokens": int(chosen["n_tokens"].sum())}
            found.append(ManifestShard(uri=uri, sha256=file_sha256(path), **counts))
    return found


def _manifest(
    groups: Sequence[Wanted],
    selections: list[list[ManifestShard]],
    token_budget: int,
    policy: Literal["repeat", "stop_and_raise_others"],
    max_epochs: float | None,
) -> Manifest:
    tokens = {
        group.name: sum(each.n_tokens for each in shards) for group, shards in zip(groups, selections, strict=True)
    }
    weights = {group.name: group.weight for group in groups}
    plan = allocate(
        weights=weights, group_tokens=tokens, token_budget=token_budget, exhaustion_policy=policy, max_epochs=max_epochs
    )
    draft = Manifest(
        schema_version=1,
        mixture="demo",
        digest="",
        proxy="demo",
        recipe="demo",
        profile="paper",
        options={},
        snapshots=list(SNAPSHOTS),
        tokenizer_digest="tokenizer-of-the-mixture",
        token_budget=token_budget,
        exhaustion_policy=policy,
        groups=[
            _group(group, shards, plan.tokens[group.name]) for group, shards in zip(groups, selections, strict=True)
        ],
        weight_contrast=None,
        shortfall=plan.shortfall,
        phases=[ManifestPhase(from_token=phase.from_token, weights=phase.weights) for phase in plan.phases],
        pins=[],
        created_by=CreatedBy(version="0.1.0", git_commit=None),
    )
    return draft.model_copy(update={"digest": manifest_digest(draft)})


def _group(group: Wanted, shards: list[ManifestShard], allocated: int) -> ManifestGroup:
    tokens = sum(each.n_tokens for each in shards)
    return ManifestGroup(
        name=group.name,
        checkpoint=None,
        step=0,
        tasks=[],
        alpha=1.0,
        threshold=0.0,
        n_documents=sum(each.n_documents for each in shards),
        n_tokens=tokens,
        density=1.0,
        density_scaled=1.0,
        weight=group.weight,
        weight_interval=None,
        weight_appendix_b=group.weight,
        exposure=allocated / tokens if tokens else 0.0,
        shards=shards,
    )
