"""Measures the work without a model, each kind through the functions that the assets call, in a temporary folder.

Every kind runs on a few documents and on many: two points give what a shard costs however small, and the speed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.inventory import take_inventory
from automixer_assets.corpus.leakage import write_leakage
from automixer_assets.corpus.lexical import fit_lexical, score_texts
from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.corpus.tokenize import tokenize_snapshot
from automixer_assets.export import export_mixture
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import write_joint_shard
from automixer_assets.mixture.ledger import write_ledger
from automixer_assets.mixture.manifest import CreatedBy, Manifest
from automixer_assets.mixture.regroup import JointShard, regroup
from automixer_assets.planning.clock import Clock
from automixer_assets.planning.constants import WorkKind, WorkSpeed
from automixer_assets.settings import Mixture, Recipe

FEW = 32
SCORED_ROWS = 200_000
GROUPS = ("early", "late")
DISK_BYTES = 128 * 2**20
TASKS, ITEMS_PER_TASK, ITEM_CHARACTERS = 8, 100, 240
FORMAT = "megatron"


@dataclass(frozen=True)
class Folders:
    """Where one size of sample lies, stage by stage."""

    root: Path

    def made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def source(self) -> Path:
        return self.made("source")

    @property
    def inventory(self) -> Path:
        return self.made("inventory")

    @property
    def tokens(self) -> Path:
        return self.made("tokens")


class WorkProbe:
    """Sample texts in two sizes below `root`; `speeds` goes through the stages in the pipeline's order."""

    def __init__(self, root: Path, texts: Sequence[str], vocab_size: int, clock: Clock) -> None:
        self._root, self._texts, self._vocab_size, self._clock = root, list(texts), vocab_size, clock
        self._sizes = {len(chosen): Folders(root / str(len(chosen))) for chosen in (self._texts[:FEW], self._texts)}
        self._bytes = {size: sum(len(text.encode()) for text in self._texts[:size]) for size in self._sizes}

    def speeds(self, report: Callable[[str], None]) -> Iterator[WorkSpeed]:
        for size, folders in self._sizes.items():
            _write_source(self._texts[:size], folders.source / "part-0.parquet")
        stages: list[tuple[WorkKind, Callable[[Folders, int], None]]] = [
            ("inventory", self._inventory),
            ("tokenizer", self._tokenizer),
            ("tokenizing", self._tokenize),
            ("leakage", self._leakage),
            ("lexical", self._lexical),
        ]
        for kind, work in stages:
            report(kind)
            seconds = {
                size: self._clock.once(lambda w=work, f=folders, n=size: w(f, n))
                for size, folders in self._sizes.items()
            }
            yield _two_points(kind, {self._bytes[size]: seconds[size] for size in seconds})
        report("joint influence, groups and weights")
        yield from self._mixture(open_tokenized(self._sizes[len(self._texts)].tokens))
        report("disk")
        yield WorkSpeed(kind="disk", per_second=disk_speed(self._root))

    def _inventory(self, folders: Folders, size: int) -> None:
        take_inventory(folders.source, folders.inventory, documents_per_shard=max(size, 1))

    def _tokenizer(self, folders: Folders, size: int) -> None:
        from automixer_assets.proxy.tokenizer import train_tokenizer

        train_tokenizer(iter(self._texts[:size]), self._vocab_size, folders.made("tokenizer"))

    def _tokenize(self, folders: Folders, size: int) -> None:
        trained = self._sizes[len(self._texts)].made("tokenizer")
        tokenize_snapshot(folders.inventory, folders.source, trained, folders.tokens, snapshot="calibration")

    def _leakage(self, folders: Folders, size: int) -> None:
        write_leakage(folders.inventory, folders.source, self._items(), folders.made("leakage"))

    def _lexical(self, folders: Folders, size: int) -> None:
        items = self._items()
        query = fit_lexical({"task": items["text"].to_list()}, self._texts[:FEW])
        score_texts(query, pl.Series(self._texts[:size]))

    def _items(self) -> pl.DataFrame:
        """Items cut from the texts themselves, so that some documents repeat them."""
        number = TASKS * ITEMS_PER_TASK
        texts = [self._texts[i % len(self._texts)][:ITEM_CHARACTERS] for i in range(number)]
        return pl.DataFrame(
            {
                "task": [f"task_{i % TASKS}" for i in range(number)],
                "item_set": ["final"] * number,
                "item_hash": [f"{i:08x}" for i in range(number)],
                "text": texts,
                "question": [text[: ITEM_CHARACTERS // 2] for text in texts],
            }
        )

    def _mixture(self, snapshot: TokenizedSnapshot) -> Iterator[WorkSpeed]:
        """Random scores for a few and for many rows; the export is of the sample's own documents."""
        seconds: dict[WorkKind, dict[float, float]] = {"joint": {}, "grouping": {}, "weighing": {}}
        for rows in (len(self._texts), SCORED_ROWS):
            mixed = _Mixed(self._root / f"rows-{rows}", rows, snapshot)
            mixed.write_scores()
            works: dict[WorkKind, Callable[[], None]] = {
                "joint": mixed.join,
                "grouping": mixed.group,
                "weighing": mixed.weigh,
            }
            for kind, work in works.items():
                seconds[kind][rows * len(GROUPS)] = self._clock.once(work)
        for kind, points in seconds.items():
            yield _two_points(kind, points)
        yield self._export(snapshot)

    def _export(self, snapshot: TokenizedSnapshot) -> WorkSpeed:
        mixed = _Mixed(self._root / f"rows-{len(self._texts)}", len(self._texts), snapshot)
        manifest, out = mixed.manifest(), self._root / "export"
        tokens = sum(group.n_tokens for group in manifest.groups)
        seconds = self._clock.once(lambda: mixed.export(manifest, out))
        return WorkSpeed(kind="export", per_second=tokens / seconds)


@dataclass(frozen=True)
class _Mixed:
    """A mixture of one snapshot with random scores."""

    root: Path
    rows: int
    snapshot: TokenizedSnapshot

    @property
    def joint(self) -> Path:
        return self.root / "joint" / "shard-00000.parquet"

    @property
    def grouped(self) -> Path:
        return self.root / "grouped"

    @property
    def scores(self) -> dict[str, Path]:
        return {group: self.root / "scores" / f"{group}.parquet" for group in GROUPS}

    def write_scores(self) -> None:
        generator = np.random.default_rng(0)
        own = self.snapshot.shards[0].documents
        ids = own["doc_id"].to_list() if self.rows == own.height else [f"<urn:uuid:{i:032x}>" for i in range(self.rows)]
        lengths = own["n_tokens"].to_numpy() if self.rows == own.height else generator.integers(50, 2000, self.rows)
        for path in self.scores.values():
            columns = {f"influence_task_{k}": generator.normal(size=self.rows).astype("f4") for k in range(TASKS)}
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"doc_id": ids, "n_tokens": lengths, **columns}), path, compression="zstd")

    def join(self) -> None:
        self.joint.parent.mkdir(parents=True, exist_ok=True)
        columns = {group: [f"influence_task_{k}" for k in range(TASKS)] for group in GROUPS}
        alphas: dict[str, float] = {group: 1 / len(GROUPS) for group in GROUPS}
        write_joint_shard(scores=self.scores, columns=columns, alphas=alphas, constants=None, out=self.joint)

    def group(self) -> None:
        regroup(joint=[JointShard("calibration", "shard-00000", self.joint)], top_share=0.5, out=self.grouped)

    def weigh(self) -> None:
        self.manifest()

    def manifest(self) -> Manifest:
        recipe = Recipe.model_validate({"scorer": "uniform"})
        chosen = {"recipe": "calibration", "token_budget": 10**6, "nonpositive_density": "softmax"}
        return build_manifest(
            name="calibration",
            mixture=Mixture.model_validate(chosen),
            recipe=recipe,
            origins=[GroupOrigin(group, alpha=1 / len(GROUPS)) for group in GROUPS],
            grouped=self.grouped,
            lake_root=self.root,
            tokenizer_digest=self.snapshot.tokenizer_digest,
            pins=[],
            created_by=CreatedBy(version="calibration", git_commit=None),
            snapshots={"calibration": self.snapshot},
        )

    def export(self, manifest: Manifest, out: Path) -> None:
        write_ledger(manifest, self.grouped, {"calibration": self.snapshot}, self.root)
        export_mixture(manifest, self.root, {"calibration": self.snapshot}, FORMAT, out)


def disk_speed(folder: Path) -> float:
    """Bytes per second written and flushed, by the wall."""
    import time

    block, path = os.urandom(2**20), folder / "disk"
    begun = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(DISK_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begun
    path.unlink()
    return DISK_BYTES / seconds


def _write_source(texts: Sequence[str], path: Path) -> None:
    """A file in FineWeb's columns."""
    ids = [f"<urn:uuid:{index:032x}>" for index in range(len(texts))]
    pl.DataFrame({"text": list(texts), "id": ids, "url": ids}).write_parquet(path)


def _two_points(kind: WorkKind, points: dict[float, float]) -> WorkSpeed:
    """The line through (amount, seconds) at two amounts; noise that bends it downwards counts as no fixed cost."""
    (few, least), (many, most) = sorted(points.items())
    slope = max(most - least, 0.1 * most) / (many - few)
    return WorkSpeed(kind=kind, per_second=1 / slope, fixed_seconds=max(0.0, least - slope * few))
