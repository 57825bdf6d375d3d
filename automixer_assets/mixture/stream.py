"""The order in which a trainer sees a mixture: plain numpy, a function of the manifest and a seed alone.

Sequences are packed per group. Each sequence comes from the group that is furthest behind its share of tokens, and a
group's documents follow one another in seeded hash order: all of them once, then all again in a new order. A position
in the stream is therefore one number per group, the tokens it has given, and any position can be reached directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash

from automixer_assets.corpus.shards import TokenizedSnapshot, TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.manifest import Manifest, ManifestGroup, ManifestPhase
from automixer_assets.mixture.selected import require_tokenizer, selected_shards

Plan = list[tuple[int, int, int]]
"""Where a sequence's tokens come from: (group, first token of the group's stream, number of tokens)."""


def order_key(doc_id: str, seed: int, epoch: int) -> int:
    """Documents of a group are read in ascending order of this key, anew each epoch."""
    return xxhash.xxh3_64_intdigest(f"{seed}/{epoch}/{doc_id}".encode())


@dataclass
class GroupStream:
    """The endless token stream of one group."""

    name: str
    shards: Sequence[TokenShard]
    doc_ids: pl.Series  # [documents], Arrow memory: a Python string per document would take five times as much
    shard_index: np.ndarray  # [documents]
    offsets: np.ndarray  # [documents], first token in the shard's file
    lengths: np.ndarray  # [documents]
    seed: int
    _epoch: int = field(default=-1, init=False)
    _order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), init=False)
    _ends: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), init=False)

    @property
    def n_tokens(self) -> int:
        return int(self.lengths.sum())

    def fill(self, out: np.ndarray, start: int) -> None:
        """Copy tokens `start`, `start + 1`, ... of the stream into `out`."""
        filled, total = 0, self.n_tokens
        while filled < len(out):
            epoch, position = divmod(start + filled, total)
            self._arrange(epoch)
            filled += self._fill_from(out[filled:], position)

    def _fill_from(self, out: np.ndarray, position: int) -> int:
        """Copy from `position` of the current epoch up to its end; returns the number of tokens."""
        filled = 0
        document = int(np.searchsorted(self._ends, position, side="right"))
        while filled < len(out) and document < len(self._order):
            index = self._order[document]
            skipped = position + filled - (self._ends[document] - self.lengths[index])
            first = self.offsets[index] + skipped
            count = min(len(out) - filled, int(self.lengths[index] - skipped))
            out[filled : filled + count] = self.shards[int(self.shard_index[index])].tokens[first : first + count]
            filled, document = filled + count, document + 1
        return filled

    def _arrange(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        keys = np.fromiter(
            (order_key(doc_id, self.seed, epoch) for doc_id in self.doc_ids), np.uint64, len(self.doc_ids)
        )
        self._order = np.argsort(keys, kind="stable")
        self._ends = np.cumsum(self.lengths[self._order])
        self._epoch = epoch


ONE = 2**62
"""Weight 1 in whole numbers. Debts are compared exactly, so a near tie falls the same way on every machine."""


class Planner:
    """Says which group gives each sequence; its state is the tokens given so far."""

    def __init__(
        self, phases: Sequence[ManifestPhase], names: Sequence[str], limits: Sequence[float], length: int
    ) -> None:
        self._starts = [phase.from_token for phase in phases]
        self._weights = [[round(phase.weights[name] * ONE) for name in names] for phase in phases]  # [phases][groups]
        self._limits = list(limits)  # [groups], infinite where nothing stops a group
        self._length = length
        self.given = np.zeros(len(names), dtype=np.int64)  # [groups]

    def next_sequence(self) -> Plan | None:
        """Plan of the next sequence, or None when the groups' limits leave no whole sequence.

        One group fills it, unless that group reaches its limit: then the next one in need completes it.
        """
        if sum(limit - int(given) for limit, given in zip(self._limits, self.given, strict=True)) < self._length:
            return None
        plan: Plan = []
        missing = self._length
        due = self._due(int(self.given.sum()) + self._length)  # [groups], in 1/ONE tokens
        while missing:
            group = self._furthest_behind(due)
            count = int(min(missing, self._limits[group] - int(self.given[group])))
            plan.append((group, int(self.given[group]), count))
            self.given[group] += count
            missing -= count
        return plan

    def _due(self, total: int) -> list[int]:
        """What each group owes once `total` tokens have been given, [groups], in 1/ONE tokens."""
        ends = [*self._starts[1:], total]
        spans = [max(0, min(end, total) - start) for start, end in zip(self._starts, ends, strict=True)]  # [phases]
        groups = zip(*self._weights, strict=True)
        return [sum(span * weight for span, weight in zip(spans, weights, strict=True)) for weights in groups]

    def _furthest_behind(self, due: Sequence[int]) -> int:
        """The group with the largest debt among those below their limit; of equals the first."""
        given = [int(count) for count in self.given]
        open_groups = [group for group, count in enumerate(given) if count < self._limits[group]]
        return max(open_groups, key=lambda group: due[group] - given[group] * ONE)


class MixtureStream:
    """Sequences of a mixture as int64 arrays [sequence_length], in an order fixed by the manifest and the seed.

    Sequence i goes to rank i % world_size. All ranks give equally many, and share one state at equal steps, so a run
    may resume with another world size.
    """

    def __init__(
        self,
        manifest: Manifest,
        lake_root: Path,
        snapshots: Mapping[str, TokenizedSnapshot],
        *,
        sequence_length: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise AutomixerError(f"rank {rank} is not below world_size {world_size}; pass the process's own rank")
        require_tokenizer(manifest, snapshots)
        self.groups = [open_group(group, lake_root, snapshots, seed) for group in manifest.groups if group.n_tokens]
        self.rank, self.world_size, self.sequence_length = rank, world_size, sequence_length
        capped = manifest.exhaustion_policy == "stop_and_raise_others"
        limits = [group.allocated_tokens if capped else np.inf for group in manifest.groups if group.n_tokens]
        if sum(limits) < sequence_length:
            raise AutomixerError(
                f"the caps of mixture {manifest.mixture} leave {int(sum(limits)):,} tokens, fewer than one sequence of "
                f"{sequence_length:,}; raise `token_budget` or the mixture's caps"
            )
        names = [group.name for group in self.groups]
        self._planner = Planner(manifest.phases, names, limits, sequence_length)
        self._identity = {"digest": manifest.digest, "seed": seed, "sequence_length": sequence_length}
        self._sequences = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.sequences(self.rank, self.world_size)

    def sequences(self, rank: int, world_size: int) -> Iterator[np.ndarray]:
        """From the current state on, the sequences of one rank; the state moves by a whole round of ranks at a time."""
        while True:
            plans = [self._planner.next_sequence() for _ in range(world_size)]
            own = plans[rank]
            if own is None or plans[-1] is None:
                return
            self._sequences += world_size
            yield self._read(own)

    def advance(self, count: int) -> None:
        """Pass over the next `count` sequences of all ranks together, unread.

        A loader's workers hold their own states; what they have given is known by its number, and so `advance` on a
        dataset of the same start gives the state to save.
        """
        for _ in range(count):
            if self._planner.next_sequence() is None:
                raise AutomixerError(f"the mixture ends after {self._sequences:,} sequences: advance by fewer")
            self._sequences += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, the same on every rank: what to load to continue with the next sequence."""
        given = {group.name: int(count) for group, count in zip(self.groups, self._planner.given, strict=True)}
        return {**self._identity, "sequences": self._sequences, "given": given}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the sequence at which `state_dict` was taken."""
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise AutomixerError(
                    f"the data state was taken with {key} {state.get(key)!r} but this stream has {value!r}; "
                    "resume with the same manifest, seed and sequence length"
                )
        self._sequences = state["sequences"]
        self._planner.given[:] = [state["given"][group.name] for group in self.groups]

    def _read(self, plan: Plan) -> np.ndarray:
        sequence = np.empty(self.sequence_length, dtype=np.int64)
        filled = 0
        for group, start, count in plan:
            self.groups[group].fill(sequence[filled : filled + count], start)
            filled += count
        return sequence


def open_group(
    group: ManifestGroup, lake_root: Path, snapshots: Mapping[str, TokenizedSnapshot], seed: int
) -> GroupStream:
    """Look up where the selected documents of a group lie."""
    parts = list(selected_shards(group, lake_root, snapshots))
    table = pl.concat(part.documents for part in parts)
    return GroupStream(
        name=group.name,
        shards=[part.shard for part in parts],
        doc_ids=table["doc_id"],
        shard_index=np.repeat(np.arange(len(parts)), [part.documents.height for part in parts]),
        offsets=table["offset"].to_numpy(),
        lengths=table["n_tokens"].to_numpy(),
        seed=seed,
    )
