"""Random influence files of any size, as `mixture_scale.py` measures them: row-aligned shards over several snapshots.

Scores are heavy-tailed, share a factor between checkpoints, depend on length, and tie for a fifth of the documents.
Every shard is a function of the seed and its number, so a larger set begins with a smaller one's documents. Files are
encoded as tokenising and scoring write theirs (`corpus.tokenize`, `influence.shard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

CHECKPOINTS = tuple(f"proxy-step-{step:06d}" for step in (5_000, 20_000, 40_000, 60_000, 80_000, 100_000))
SHARD_ROWS = 1_000_000
N_SNAPSHOTS = 4
IDS = """
SELECT '<urn:uuid:' || CAST(md5(CAST(number AS VARCHAR)) AS UUID) || '>' AS doc_id
FROM range($first, $first + $n_rows) AS documents(number)
ORDER BY number
"""


@dataclass(frozen=True)
class Shard:
    """One shard of the set: its documents and, per checkpoint, its influence file."""

    snapshot: str
    name: str
    documents: Path
    influence: dict[str, Path]


@dataclass(frozen=True)
class ScoredSet:
    """A generated set; `tasks` names the influence columns of every file."""

    root: Path
    n_documents: int
    tasks: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        return [f"influence_datainf_sequence_{task}" for task in self.tasks]

    @property
    def shards(self) -> list[Shard]:
        """Shards in (snapshot, name) order."""
        count = -(-self.n_documents // SHARD_ROWS)
        return sorted((self._shard(index) for index in range(count)), key=lambda each: (each.snapshot, each.name))

    def _shard(self, index: int) -> Shard:
        snapshot, name = f"CC-MAIN-2026-{index % N_SNAPSHOTS + 1:02d}", f"shard-{index // N_SNAPSHOTS:05d}"
        place = Path(snapshot) / f"{name}.parquet"
        influence = {each: self.root / "influence" / each / place for each in CHECKPOINTS}
        return Shard(snapshot, name, self.root / "documents" / place, influence)

    def write(self, seed: int = 0) -> None:
        for index in range(-(-self.n_documents // SHARD_ROWS)):
            n_rows = min(SHARD_ROWS, self.n_documents - index * SHARD_ROWS)
            _write_shard(self._shard(index), self.columns, index, n_rows, seed)


def _write_shard(shard: Shard, columns: Sequence[str], index: int, n_rows: int, seed: int) -> None:
    generator = np.random.default_rng([seed, index])
    parameters = {"first": index * SHARD_ROWS, "n_rows": n_rows}
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        ids = connection.sql(IDS, params=parameters).to_arrow_table()["doc_id"].cast(pa.string())
    quality = generator.standard_t(4, n_rows)
    n_tokens = np.clip(generator.lognormal(6.2, 1.0, n_rows), 0, 200_000).astype(np.int64)
    n_tokens[generator.random(n_rows) < 1e-4] = 0
    base = {"doc_id": ids, "n_tokens": n_tokens}
    score = np.clip(2.5 + 0.5 * quality + generator.normal(0, 0.5, n_rows), 0, 5)
    extra = {"language_score": generator.beta(30, 1, n_rows), "score": score, "int_score": np.rint(score).astype(int)}
    shard.documents.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({**base, **extra}).write_parquet(shard.documents)
    for position, path in enumerate(shard.influence.values()):
        scores = {column: _influence(generator, quality, n_tokens, position) for column in columns}
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({**base, **scores}), path, compression="zstd")


def _influence(generator: np.random.Generator, quality: np.ndarray, n_tokens: np.ndarray, position: int) -> np.ndarray:
    """Influence (negative is helpful) of each document at one checkpoint, float32."""
    noise = generator.standard_t(5, len(quality))
    utility = 0.2 + 0.6 * quality + 0.8 * noise - 0.05 * np.log1p(n_tokens)
    tied = generator.random(len(quality)) < 0.2
    return (-np.where(tied, utility.round(2), utility) * 0.01 * 2.0**-position).astype(np.float32)
