"""Claims about the order in which a run reads its tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.data import PackedTokens, SequenceStream, as_batches


def packed(snapshots: list[TokenizedSnapshot], seed: int = 0, length: int = 8, batch: int = 2) -> PackedTokens:
    return PackedTokens(snapshots, sequence_length=length, batch_size=batch, seed=seed)


def documents(snapshot: TokenizedSnapshot) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in ids) for shard in snapshot.shards for ids in shard.iter_tokens()]


def epoch_stream(data: PackedTokens, epoch: int) -> list[int]:
    first = epoch * data.sequences_per_epoch
    return np.concatenate([data.sequence(first + i) for i in range(data.sequences_per_epoch)]).tolist()


def test_an_epoch_is_the_documents_in_some_order_without_its_last_unfilled_sequence(
    snapshot: TokenizedSnapshot,
) -> None:
    data = packed([snapshot])
    stream, waiting = epoch_stream(data, 0), documents(snapshot)
    assert len(stream) == data.tokens // 8 * 8
    position = 0
    while position < len(stream):
        match = next(
            d for d in waiting if list(d) == stream[position : position + len(d)] or is_cut(d, stream, position)
        )
        waiting.remove(match)
        position += len(match)
    assert sum(map(len, waiting)) < 8


def is_cut(document: tuple[int, ...], stream: list[int], position: int) -> bool:
    rest = stream[position:]
    return len(rest) < len(document) and list(document[: len(rest)]) == rest


def test_any_step_reads_the_same_whatever_was_read_before(snapshot: TokenizedSnapshot) -> None:
    forward, jumping = packed([snapshot]), packed([snapshot])
    expected = [forward.batch(step) for step in range(30)]
    for step in (29, 3, 17, 0, 28):
        np.testing.assert_array_equal(jumping.batch(step), expected[step])
    assert expected[0].shape == (2, 8)
    assert expected[0].dtype == np.int64


def test_epochs_and_seeds_have_orders_of_their_own(snapshot: TokenizedSnapshot) -> None:
    data = packed([snapshot])
    streams = {tuple(epoch_stream(data, epoch)) for epoch in range(4)}
    assert len(streams) == 4
    assert epoch_stream(packed([snapshot], seed=1), 0) != epoch_stream(data, 0)
    assert epoch_stream(packed([snapshot], seed=0), 0) == epoch_stream(data, 0)


def test_several_snapshots_are_mixed(tmp_path: Path, make_snapshot: Callable[..., TokenizedSnapshot]) -> None:
    one = make_snapshot(tmp_path / "one", [[4] * 20], "a")
    two = make_snapshot(tmp_path / "two", [[4] * 20], "bb")
    ids = epoch_stream(packed([one, two]), 0)
    chunks = Counter(tuple(ids[i : i + 4]) for i in range(0, len(ids), 4))
    assert chunks == Counter(documents(one)) + Counter(documents(two))
    sources = ["a" if tuple(ids[i : i + 4]) in documents(one) else "b" for i in range(0, len(ids), 4)]
    assert sources != sorted(sources)


def test_the_hash_order_is_pinned() -> None:
    """A changed order would change every trained proxy without notice."""
    from automixer_assets.proxy.data import _hash

    assert np.argsort(_hash(np.arange(8, dtype=np.uint64), 0, 0)).tolist() == PINNED_ORDER


PINNED_ORDER = [5, 0, 3, 7, 4, 1, 6, 2]


def test_too_little_text_is_refused(tmp_path: Path, make_snapshot: Callable[..., TokenizedSnapshot]) -> None:
    small = make_snapshot(tmp_path / "small", [[3]], "small")
    with pytest.raises(AutomixerError, match=r"snapshots small hold 3 tokens, less than one sequence of 8"):
        packed([small])


def test_snapshots_of_two_tokenizers_are_refused(
    tmp_path: Path, make_snapshot: Callable[..., TokenizedSnapshot]
) -> None:
    one = make_snapshot(tmp_path / "one", [[9]], "a", "digest-1")
    two = make_snapshot(tmp_path / "two", [[9]], "b", "digest-2")
    with pytest.raises(AutomixerError, match="different tokenizers"):
        packed([one, two])


def test_a_resumed_run_refuses_other_data(snapshot: TokenizedSnapshot) -> None:
    with pytest.raises(AutomixerError, match="read other data"):
        packed([snapshot], seed=1).load_state_dict(packed([snapshot], seed=0).state_dict())


class Counting:
    """A source of sequences that keeps its place, as a mixture's dataset does."""

    def __init__(self, count: int) -> None:
        self.position, self.count = 0, count

    def __iter__(self) -> Any:
        while self.position < self.count:
            self.position += 1
            yield {"input_ids": [self.position] * 4}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def test_a_stream_of_sequences_goes_on_at_its_place() -> None:
    batches = as_batches(Counting(6), 2)
    assert isinstance(batches, SequenceStream)
    assert batches.batch(0)[:, 0].tolist() == [1, 2]
    state = batches.state_dict()
    assert batches.batch(1)[:, 0].tolist() == [3, 4]
    other = SequenceStream(Counting(6), 2)
    other.load_state_dict(state)
    assert other.batch(1)[:, 0].tolist() == [3, 4]
    assert other.batch(2)[:, 0].tolist() == [5, 6]
    with pytest.raises(AutomixerError, match="ended before step 4"):
        other.batch(3)
