"""Training data with random access: what a step reads depends on its number alone, so a resumed run needs no more.

Two sources speak the same protocol (`Batches`): tokenised snapshots packed in a seeded order, and any iterable of
sequences that can save its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import SnapshotOrder


class Batches(Protocol):
    """What `train` reads: `batch(step)` for step = 0, 1, ... in order, after `load_state_dict` when resuming."""

    def batch(self, step: int) -> Any:
        """Token ids, [batch_size, sequence_length], of the step with that number (from 0)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must be given back; JSON types only."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class _Documents:
    """Where each document lies; one entry per document, snapshots and shards in the given order."""

    snapshot: np.ndarray  # [n_documents] int32, index into the list of snapshots
    shard: np.ndarray  # [n_documents] int32, index into the list of shards
    offset: np.ndarray  # [n_documents] int64, first id in the shard
    length: np.ndarray  # [n_documents] int64

    @property
    def tokens(self) -> int:
        return int(self.length.sum())


class PackedTokens:
    """Documents of tokenised snapshots in a seeded order, back to back, cut into sequences (paper, section 6).

    Each epoch has its own order, by a hash of (seed, epoch, document): over all snapshots (`mixed`), or within each
    snapshot, one after the other (`as_listed`). An epoch's last tokens that do not fill a sequence are left out of it.
    Sequences cross document borders; every document ends with the end-of-document id. Ids stay memory-mapped: the
    memory used is 24 bytes a document, plus 24 for each of the last two epochs' orders.
    """

    def __init__(
        self,
        snapshots: Sequence[TokenizedSnapshot],
        *,
        sequence_length: int,
        batch_size: int,
        seed: int,
        snapshot_order: SnapshotOrder = "mixed",
    ) -> None:
        """Raises AutomixerError when the snapshots do not hold one sequence or come from several tokenizers."""
        if len({snapshot.tokenizer_digest for snapshot in snapshots}) > 1:
            names = ", ".join(snapshot.snapshot for snapshot in snapshots)
            raise AutomixerError(f"snapshots {names} were tokenised by different tokenizers; materialise them again")
        self.sequence_length, self.batch_size, self.seed = sequence_length, batch_size, seed
        self.snapshot_order: SnapshotOrder = snapshot_order
        self._shards = [shard for snapshot in snapshots for shard in snapshot.shards]
        self._documents = _read_documents(snapshots)
        self.tokens = self._documents.tokens
        self.sequences_per_epoch = self.tokens // sequence_length
        if self.sequences_per_epoch == 0:
            names = ", ".join(snapshot.snapshot for snapshot in snapshots) or "none"
            raise AutomixerError(
                f"snapshots {names} hold {self.tokens} tokens, less than one sequence of {sequence_length}; "
                "add snapshots or shorten training.sequence_length"
            )
        self._epoch = lru_cache(maxsize=2)(self._epoch_order)

    def batch(self, step: int) -> np.ndarray:
        """Token ids of the step with that number (from 0), int64 [batch_size, sequence_length]."""
        first = step * self.batch_size
        return np.stack([self.sequence(first + index) for index in range(self.batch_size)])

    def sequence(self, index: int) -> np.ndarray:
        """The sequence with that number over all epochs, int64 [sequence_length]."""
        epoch, within = divmod(index, self.sequences_per_epoch)
        order, ends = self._epoch(epoch)
        position = within * self.sequence_length  # of the next id wanted, in the epoch's concatenation
        rank = int(np.searchsorted(ends, position, side="right"))
        pieces, wanted = [], self.sequence_length
        while wanted > 0:
            document = order[rank]
            length = int(self._documents.length[document])
            skipped = position - (int(ends[rank]) - length)
            taken = min(wanted, length - skipped)
            start = int(self._documents.offset[document]) + skipped
            pieces.append(self._shards[self._documents.shard[document]].tokens[start : start + taken])
            position, wanted, rank = position + taken, wanted - taken, rank + 1
        return np.concatenate(pieces).astype(np.int64)

    def state_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "tokens": self.tokens,
            "documents": len(self._documents.length),
            "sequence_length": self.sequence_length,
            "batch_size": self.batch_size,
            "snapshot_order": self.snapshot_order,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no place to restore; this refuses to go on with other data than the run began with."""
        if state != self.state_dict():
            raise AutomixerError(
                f"the interrupted run read other data ({state}) than given now ({self.state_dict()}); "
                "delete its folder to start anew"
            )

    def _epoch_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's documents in order, and where each ends in their concatenation; both [n_documents] int64."""
        index = np.arange(len(self._documents.length), dtype=np.uint64)
        keys = _hash(index, self.seed, epoch)
        if self.snapshot_order == "mixed":
            order = np.argsort(keys, kind="stable")
        else:
            order = np.lexsort((keys, self._documents.snapshot))
        return order, np.cumsum(self._documents.length[order])


class SequenceStream:
    """Batches from an iterable of sequences that keeps its own place, such as a mixture's dataset.

    The iterable needs `state_dict()` and `load_state_dict(state)`; it yields arrays, tensors or lists of
    `sequence_length` ids, or mappings that hold such under `input_ids`.
    """

    def __init__(self, sequences: Iterable[Any], batch_size: int) -> None:
        self._sequences: Any = sequences
        self._batch_size = batch_size
        self._iterator: Iterator[Any] | None = None

    def batch(self, step: int) -> np.ndarray:
        """The next `batch_size` sequences, int64 [batch_size, sequence_length]; AutomixerError at the stream's end."""
        if self._iterator is None:
            self._iterator = iter(self._sequences)
        rows = []
        for _ in range(self._batch_size):
            item = next(self._iterator, None)
            if item is None:
                raise AutomixerError(
                    f"the training data ended before step {step + 1}; lower training.steps or add data"
                )
            rows.append(np.asarray(item["input_ids"] if isinstance(item, dict) else item, dtype=np.int64))
        return np.stack(rows)

    def state_dict(self) -> dict[str, Any]:
        return self._sequences.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sequences.load_state_dict(state)
        self._iterator = None


def as_batches(source: Any, batch_size: int) -> Batches:
    """`source` itself if it has `batch`, else the adapter around an iterable of sequences."""
    return source if hasattr(source, "batch") else SequenceStream(source, batch_size)


def _read_documents(snapshots: Sequence[TokenizedSnapshot]) -> _Documents:
    parts: list[tuple[np.ndarray, ...]] = [
        tuple(np.empty(0, kind) for kind in (np.int32, np.int32, np.int64, np.int64))
    ]
    shards = ((number, shard) for number, snapshot in enumerate(snapshots) for shard in snapshot.shards)
    for number, (snapshot_number, shard) in enumerate(shards):
        # Only these two columns: `shard.documents` would read urls and more of the whole corpus.
        columns = pl.read_parquet(shard.documents_path, columns=["offset", "n_tokens"])
        parts.append(
            (
                np.full(columns.height, snapshot_number, dtype=np.int32),
                np.full(columns.height, number, dtype=np.int32),
                columns["offset"].to_numpy().astype(np.int64),
                columns["n_tokens"].to_numpy().astype(np.int64),
            )
        )
    return _Documents(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _hash(index: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """splitmix64 of the document's number under (seed, epoch): the same on every machine and numpy version."""
    salt = (seed * 0x9E3779B97F4A7C15 + (epoch + 1) * 0xD1B54A32D192ED03) % 2**64
    z = _mix(index + np.uint64(salt))
    return _mix(z + np.uint64(0x9E3779B97F4A7C15))


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
