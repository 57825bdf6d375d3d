"""A tiny mixture from tokens to manifest: two snapshots, two overlapping groups, distinct token ids per document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.manifest import CreatedBy, Manifest, Pin
from automixer_assets.mixture.regroup import regroup
from automixer_assets.settings import Mixture, Recipe
from automixer_assets_tests.mixture.builders import Document, write_joint, write_tokenized

GROUPS: tuple[str, ...] = ("demo-step-000480", "demo-step-001200")
PIN = Pin(
    asset="joint_influence", partition="demo|A", data_version="v1", run_id="r", storage_id=7, uri="joint/1", sha256="5a"
)


@dataclass(frozen=True)
class Tiny:
    manifest: Manifest
    root: Path
    snapshots: dict[str, TokenizedSnapshot]


def tiny_mixture(root: Path, *, pins: list[Pin] | None = None, **options: Any) -> Tiny:
    """`options` are settings of the mixture, over a budget of 20,000 tokens."""
    rng = np.random.default_rng(3)
    documents: list[Document] = []
    tokens: dict[tuple[str, str], list[tuple[str, str, list[int]]]] = {}
    for number in range(60):
        snapshot, shard = "AB"[number // 40], f"shard-{number // 20 % 2:05d}"
        length = int(rng.integers(1, 60))
        rows = tokens.setdefault((snapshot, shard), [])
        utilities = dict(zip(GROUPS, (rng.normal(1, 0.5, 2)).tolist(), strict=True))
        documents.append(
            Document(snapshot, shard, len(rows), f"d{number:02d}", length, utilities, sum(utilities.values()) / 2)
        )
        # Ids say which document and which of its tokens: 100 * (number + 1) + position, ending in 0.
        rows.append((f"d{number:02d}", f"h{number % 50:02d}", [100 * (number + 1) + i for i in range(1, length)] + [0]))
    snapshots = {
        name: write_tokenized(root, name, {shard: rows for (place, shard), rows in tokens.items() if place == name})
        for name in "AB"
    }
    grouped = root / "grouped_shards" / "abc"
    regroup(joint=write_joint(root, documents, GROUPS), top_share=0.5, out=grouped)
    manifest = build_manifest(
        name="demo",
        mixture=Mixture.model_validate({"recipe": "demo", "token_budget": 20_000, **options}),
        recipe=Recipe.model_validate({"proxy": "demo"}),
        origins=[GroupOrigin(name, name, step, ("piqa",), 0.5) for name, step in zip(GROUPS, (480, 1200), strict=True)],
        grouped=grouped,
        lake_root=root,
        tokenizer_digest="tok",
        pins=[PIN] if pins is None else pins,
        created_by=CreatedBy(version="0.1.0", git_commit=None),
        snapshots=snapshots,
    )
    return Tiny(manifest, root, snapshots)
