"""Measures the work without a model, each kind through the functions that the assets call, in a temporary folder.

Every kind runs on few documents, on many, and on many in many shards: three points give what an artefact costs however
small, what a shard does, and the speed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.corpus.inventory import take_inventory
from automixer_assets.corpus.leakage import write_leakage
from automixer_assets.corpus.lexical import fit_lexical, score_texts
from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized, shard_name
from automixer_assets.corpus.tokenize import tokenize_snapshot
from automixer_assets.export import export_mixture
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.candidates import Exclusions, restore_rows, without_excluded
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import write_joint_shard
from automixer_assets.mixture.ledger import write_ledger
from automixer_assets.mixture.manifest import CreatedBy, Manifest
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.percentiles import write_percentile_ranges
from automixer_assets.mixture.regroup import regroup
from automixer_assets.planning.clock import Clock
from automixer_assets.planning.constants import WorkKind, WorkSpeed
from automixer_assets.settings import Mixture, Recipe

FEW, SHARDS = 32, 8
SCORED_ROWS = 200_000
GROUPS = ("early", "late")
DISK_BYTES = 128 * 2**20
TASKS, ITEMS_PER_TASK, ITEM_CHARACTERS = 8, 100, 240
FORMAT = "megatron"
COLUMNS = tuple(f"influence_task_{k}" for k in range(TASKS))


@dataclass(frozen=True)
class Case:
    """A number of documents or rows in a number of shards, and the folder where its stages lie."""

    size: int
    shards: int
    root: Path

    @property
    def per_shard(self) -> int:
        return -(-self.size // self.shards)

    def made(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True)
class Timed:
    """What one case took."""

    amount: float
    shards: int
    seconds: float


class WorkProbe:
    """Sample texts below `root`: few, many, and many in many shards. `speeds` goes through the pipeline's stages."""

    def __init__(self, root: Path, texts: Sequence[str], vocab_size: int, clock: Clock) -> None:
        self._root, self._texts, self._vocab_size, self._clock = root, list(texts), vocab_size, clock
        self._cases = _cases(root, min(FEW, len(texts) // 2), len(texts))

    @property
    def _whole(self) -> Case:
        """All texts in one shard."""
        return self._cases[1]

    def speeds(self, report: Callable[[str], None]) -> Iterator[WorkSpeed]:
        for case in self._cases:
            _write_source(self._texts[: case.size], case.made("source") / "part-0.parquet")
        stages: dict[WorkKind, Callable[[Case], None]] = {
            "inventory": self._inventory,
            "tokenizer": self._tokenizer,
            "tokenizing": self._tokenize,
            "leakage": self._leakage,
            "lexical": self._lexical,
        }
        self._tokenizer(self._whole)
        for kind, work in stages.items():
            report(kind)
            yield work_speed(kind, [self._timed(case, work) for case in self._cases])
        report("joint influence, groups and weights")
        yield from self._mixture(open_tokenized(self._whole.made("tokens")))
        report("disk")
        yield WorkSpeed(kind="disk", per_second=disk_speed(self._root))

    def _timed(self, case: Case, work: Callable[[Case], None]) -> Timed:
        amount = sum(len(text.encode()) for text in self._texts[: case.size])
        return Timed(amount, case.shards, self._clock.once(lambda: work(case)))

    def _inventory(self, case: Case) -> None:
        take_inventory(case.made("source"), case.made("inventory"), documents_per_shard=case.per_shard)

    def _tokenizer(self, case: Case) -> None:
        from automixer_assets.proxy.tokenizer import train_tokenizer

        train_tokenizer(iter(self._texts[: case.size]), self._vocab_size, case.made("tokenizer"))

    def _tokenize(self, case: Case) -> None:
        trained = self._whole.made("tokenizer")
        tokenize_snapshot(
            case.made("inventory"), case.made("source"), trained, case.made("tokens"), snapshot="calibration"
        )

    def _leakage(self, case: Case) -> None:
        write_leakage(case.made("inventory"), case.made("source"), self._items(), case.made("leakage"))

    def _lexical(self, case: Case) -> None:
        query = fit_lexical({"task": self._texts[:FEW]}, self._texts[:FEW])
        for first in range(0, case.size, case.per_shard):
            score_texts(query, pl.Series(self._texts[first : min(first + case.per_shard, case.size)]))

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
        """Random scores for few and many rows; the export is of the sample's own documents."""
        timed: dict[WorkKind, list[Timed]] = {"joint": [], "grouping": [], "weighing": []}
        small, *others = _cases(self._root / "rows", len(self._texts), max(SCORED_ROWS, 2 * len(self._texts)))
        for case in (small, *others):
            mixed = _Mixed(case, snapshot)
            mixed.write_scores()
            works: dict[WorkKind, Callable[[], object]] = {
                "joint": mixed.join,
                "grouping": mixed.group,
                "weighing": mixed.weigh,
            }
            for kind, work in works.items():
                timed[kind].append(Timed(case.size * len(GROUPS), case.shards, self._clock.once(work)))
        for kind, cases in timed.items():
            yield work_speed(kind, cases)
        manifest = _Mixed(small, snapshot).manifest()
        seconds = self._clock.once(lambda: _Mixed(small, snapshot).export(manifest))
        yield WorkSpeed(kind="export", per_second=sum(group.n_tokens for group in manifest.groups) / seconds)


@dataclass(frozen=True)
class _Mixed:
    """A mixture of one snapshot with random scores; of a single shard its documents are the sample's own."""

    case: Case
    snapshot: TokenizedSnapshot

    @property
    def grouped(self) -> Path:
        return self.case.made("grouped")

    def _joint(self) -> list[JointShard]:
        folder = self.case.made("joint")
        names = [shard_name(number) for number in range(self.case.shards)]
        return [JointShard("calibration", name, folder / f"{name}.parquet") for name in names]

    @property
    def _documents(self) -> dict[tuple[str, str], Path]:
        folder = self.case.made("documents")
        return {(each.snapshot, each.shard): folder / f"{each.shard}.parquet" for each in self._joint()}

    def _scores(self, shard: str) -> dict[str, Path]:
        return {group: self.case.made(group) / f"{shard}.parquet" for group in GROUPS}

    def write_scores(self) -> None:
        own = self.snapshot.shards[0].documents
        for number, joint in enumerate(self._joint()):
            path = self._documents[joint.snapshot, joint.shard]
            rows = min(self.case.per_shard, self.case.size - number * self.case.per_shard)
            generator = np.random.default_rng(number)
            ids, lengths = own["doc_id"].to_list(), own["n_tokens"].to_numpy()
            if rows != own.height:
                ids = [f"<urn:uuid:{number:016x}{row:016x}>" for row in range(rows)]
                lengths = generator.integers(50, 2000, rows)
            table = {"doc_id": ids, "n_tokens": lengths, "content_hash": ids, "score": generator.normal(size=rows)}
            pl.DataFrame(table).write_parquet(path)
            for path in self._scores(joint.shard).values():
                columns = {name: generator.normal(size=rows).astype("f4") for name in COLUMNS}
                pq.write_table(pa.table({"doc_id": ids, "n_tokens": lengths, **columns}), path, compression="zstd")

    def join(self) -> None:
        columns = {group: list(COLUMNS) for group in GROUPS}
        alphas: dict[str, float] = {group: 1 / len(GROUPS) for group in GROUPS}
        for shard in self._joint():
            scores = self._scores(shard.shard)
            write_joint_shard(scores=scores, columns=columns, alphas=alphas, constants=None, out=shard.path)

    def group(self) -> None:
        shards, nothing = self._joint(), Exclusions({}, {})
        candidates, _ = without_excluded(shards, nothing, self.case.made("scratch"))
        regroup(joint=candidates, top_share=0.5, out=self.grouped)
        restore_rows(self.grouped, nothing)
        ranges = self.grouped / "percentile_ranges.parquet"
        write_percentile_ranges(joint=shards, documents=self._documents, out=ranges)

    def weigh(self) -> None:
        """The manifest with its intervals, and the ledger of how often each document is read."""
        names = tuple(shard.shard for shard in self._joint())
        tokenized = replace(self.snapshot, folder=self.case.made("documents"), shard_names=names)
        write_ledger(self.manifest(), self.grouped, {"calibration": tokenized}, self.case.made("ledger"))

    def manifest(self) -> Manifest:
        chosen = {"recipe": "calibration", "token_budget": 10**6, "nonpositive_density": "softmax"}
        return build_manifest(
            name="calibration",
            mixture=Mixture.model_validate(chosen),
            recipe=Recipe.model_validate({"scorer": "uniform"}),
            origins=[GroupOrigin(group, alpha=1 / len(GROUPS)) for group in GROUPS],
            grouped=self.grouped,
            lake_root=self.case.root,
            tokenizer_digest=self.snapshot.tokenizer_digest,
            pins=[],
            created_by=CreatedBy(version="calibration", git_commit=None),
            snapshots={"calibration": self.snapshot},
        )

    def export(self, manifest: Manifest) -> None:
        export_mixture(manifest, self.case.root, {"calibration": self.snapshot}, FORMAT, self.case.root / "export")


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


def _cases(root: Path, few: int, many: int) -> list[Case]:
    """Few in one shard, many in one, many in many."""
    return [Case(size, shards, root / f"{size}-{shards}") for size, shards in ((few, 1), (many, 1), (many, SHARDS))]


def work_speed(kind: WorkKind, cases: Sequence[Timed]) -> WorkSpeed:
    """Seconds per amount, per shard and per artefact from few in one shard, many in one shard, many in many.

    Where noise makes one of them negative it counts as nothing, and at least a tenth of the time is the amount's.
    """
    few, many, spread = cases
    slope = max(many.seconds - few.seconds, 0.1 * many.seconds) / (many.amount - few.amount)
    per_shard = max(0.0, spread.seconds - many.seconds) / (spread.shards - many.shards)
    fixed = max(0.0, few.seconds - slope * few.amount - per_shard * few.shards)
    return WorkSpeed(kind=kind, per_second=1 / slope, fixed_seconds=fixed, shard_seconds=per_shard)
