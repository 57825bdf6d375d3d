from __future__ import annotations

import json
from itertools import islice

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus.shards import write_header
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.budget import allocate, document_constraints
from automixer_assets.mixture.manifest import ManifestPhase
from automixer_assets.mixture.stream import MixtureStream, Planner, order_key
from automixer_assets_tests.mixture.tiny import Tiny, tiny_mixture

LENGTH = 16


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_mixture(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def capped(tmp_path_factory) -> Tiny:
    options = {"max_epochs": 1.5, "exhaustion_policy": "stop_and_raise_others", "token_budget": 2740}
    return tiny_mixture(tmp_path_factory.mktemp("lake"), **options)


def stream(tiny: Tiny, **options) -> MixtureStream:
    return MixtureStream(tiny.manifest, tiny.root, tiny.snapshots, **{"sequence_length": LENGTH, "seed": 5, **options})


def take(source, count: int) -> list[list[int]]:
    return [sequence.tolist() for sequence in islice(source, count)]


def test_the_same_seed_gives_the_same_sequences_and_another_seed_does_not(tiny):
    first = take(stream(tiny), 200)
    assert first == take(stream(tiny), 200)
    assert first != take(stream(tiny, seed=6), 200)


def test_sequences_are_int64_of_the_asked_length(tiny):
    sequence = next(iter(stream(tiny)))
    assert (sequence.dtype, sequence.shape) == (np.int64, (LENGTH,))


def test_token_shares_follow_the_weights(tiny):
    source = stream(tiny)
    take(source, 1000)
    given_tokens = source.state_dict()["given"]
    for group in tiny.manifest.groups:
        assert given_tokens[group.name] / (1000 * LENGTH) == pytest.approx(group.weight, abs=0.002)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda weights: sum(weights) > 0.01))
def test_no_group_is_ever_far_from_its_share(raw):
    weights = {str(index): weight / sum(raw) for index, weight in enumerate(raw)}
    planner = Planner([ManifestPhase(from_token=0, weights=weights)], list(weights), [np.inf] * len(weights), 10)
    for number in range(1, 301):
        planner.next_sequence()
        behind = np.array(list(weights.values())) * number * 10 - planner.given
        assert np.abs(behind).max() <= 10 * np.log2(len(weights) + 2)


def test_no_document_repeats_before_its_group_is_exhausted(tiny):
    source = stream(tiny)
    for group, entry in zip(source.groups, tiny.manifest.groups, strict=True):
        epochs = []
        for epoch in range(3):
            tokens = np.empty(entry.n_tokens, np.int64)
            group.fill(tokens, epoch * entry.n_tokens)
            assert sorted(tokens.tolist()) == sorted(
                int(token)
                for shard in entry.shards
                for row in pl.read_parquet(tiny.root / shard.uri)["row"]
                for token in _document(tiny, shard.snapshot, shard.shard, row)
            )
            epochs.append(tokens.tolist())
        assert epochs[0] != epochs[1] != epochs[2]


def _document(tiny: Tiny, snapshot: str, shard: str, row: int) -> np.ndarray:
    shards = {each.name: each for each in tiny.snapshots[snapshot].shards}
    return shards[shard].document_tokens(row)


def test_documents_follow_one_another_whole_in_hash_order(tiny):
    group, entry = stream(tiny).groups[0], tiny.manifest.groups[0]
    for epoch in range(2):
        tokens = np.empty(entry.n_tokens, np.int64)
        group.fill(tokens, epoch * entry.n_tokens)
        documents = [
            (order_key(doc_id, 5, epoch), _document(tiny, shard.snapshot, shard.shard, row).tolist())
            for shard in entry.shards
            for row, doc_id in pl.read_parquet(tiny.root / shard.uri).select("row", "doc_id").rows()
        ]
        assert tokens.tolist() == [token for _, document in sorted(documents) for token in document]


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 3000), count=st.integers(0, 500))
def test_any_position_of_a_group_can_be_read_directly(tiny, start, count):
    group = stream(tiny).groups[1]
    whole, part = np.empty(3500, np.int64), np.empty(count, np.int64)
    group.fill(whole, 0)
    group.fill(part, start)
    assert part.tolist() == whole[start : start + count].tolist()


@settings(max_examples=30, deadline=None)
@given(raw=st.lists(st.integers(0, 100), min_size=1, max_size=12).filter(any), length=st.sampled_from([1, 16, 2048]))
def test_shares_are_within_one_percent_after_a_thousand_sequences(raw, length):
    weights = {str(index): weight / sum(raw) for index, weight in enumerate(raw)}
    planner = Planner([ManifestPhase(from_token=0, weights=weights)], list(weights), [np.inf] * len(weights), length)
    for _ in range(1000):
        planner.next_sequence()
    for weight, tokens in zip(weights.values(), planner.given.tolist(), strict=True):
        assert abs(tokens / (1000 * length) - weight) <= 0.01
        assert tokens == 0 or weight > 0


@settings(max_examples=25, deadline=None)
@given(data=st.data(), tokens=st.lists(st.integers(20, 400), min_size=1, max_size=4), budget=st.integers(10, 2000))
def test_a_stream_of_any_allocation_gives_every_group_its_tokens(data, tokens, budget):
    names = [f"g{index}" for index in range(len(tokens))]
    raw = [data.draw(st.integers(1, 20)) for _ in names]
    sizes = dict(zip(names, tokens, strict=True))
    shared = document_constraints([dict.fromkeys(names, 1)], sizes, data.draw(st.sampled_from([0.5, 2.0])))
    allocation = allocate(
        weights={name: weight / sum(raw) for name, weight in zip(names, raw, strict=True)},
        group_tokens=sizes,
        token_budget=budget,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=1.5,
        constraints=shared,
    )
    phases = [ManifestPhase(from_token=each.from_token, weights=each.weights) for each in allocation.phases]
    planner = Planner(phases, names, [allocation.tokens[name] for name in names], 1)
    while planner.next_sequence() is not None:
        pass
    assert planner.given.tolist() == [allocation.tokens[name] for name in names]


@settings(max_examples=15, deadline=None)
@given(rounds=st.integers(0, 12), world=st.integers(1, 4), new_world=st.integers(1, 4), data=st.data())
def test_any_world_may_be_resumed_by_any_other(tiny, rounds, world, new_world, data):
    source = stream(tiny, rank=data.draw(st.integers(0, world - 1)), world_size=world)
    take(source, rounds)
    rank = data.draw(st.integers(0, new_world - 1))
    resumed = stream(tiny, rank=rank, world_size=new_world)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    done = rounds * world
    assert take(resumed, 4) == take(stream(tiny), done + 4 * new_world)[done + rank :: new_world]


@pytest.mark.parametrize("done", [0, 1, 57])
def test_a_resumed_stream_continues_at_the_next_token(tiny, done):
    source = stream(tiny)
    take(source, done)
    resumed = stream(tiny)
    resumed.load_state_dict(source.state_dict())
    assert take(resumed, 50) == take(stream(tiny), done + 50)[done:]


def test_ranks_share_the_sequences_and_one_state(tiny):
    everything = take(stream(tiny), 60)
    ranks = [stream(tiny, rank=rank, world_size=3) for rank in range(3)]
    parts = [take(rank, 10) for rank in ranks]
    assert [parts[index % 3][index // 3] for index in range(30)] == everything[:30]
    assert ranks[0].state_dict() == ranks[1].state_dict() == ranks[2].state_dict()
    resumed = stream(tiny, rank=1, world_size=2)
    resumed.load_state_dict(ranks[0].state_dict())
    assert take(resumed, 15) == everything[31:60:2]


@pytest.mark.parametrize("change", [{"seed": 6}, {"sequence_length": 8}])
def test_a_state_of_another_stream_is_refused(tiny, change):
    with pytest.raises(AutomixerError, match="resume with the same"):
        stream(tiny, **change).load_state_dict(stream(tiny).state_dict())


def test_caps_and_phases_are_honoured_and_the_stream_ends_with_the_budget(capped):
    manifest = capped.manifest
    assert len(manifest.phases) == 2
    source = stream(capped)
    sequences = list(source)
    given_tokens = source.state_dict()["given"]
    reachable = manifest.token_budget - manifest.shortfall
    assert len(sequences) == reachable // LENGTH
    for group in manifest.groups:
        assert given_tokens[group.name] <= group.allocated_tokens <= 1.5 * group.n_tokens


def test_a_stream_can_pass_over_sequences_without_reading_them(tiny, capped):
    passed, read = stream(tiny), stream(tiny)
    passed.advance(23)
    take(read, 23)
    assert passed.state_dict() == read.state_dict()
    assert take(passed, 5) == take(stream(tiny), 28)[23:]
    with pytest.raises(AutomixerError, match="the mixture ends after"):
        stream(capped).advance(10**4)


def test_caps_below_one_sequence_are_refused(capped):
    with pytest.raises(AutomixerError, match=r"leave [\d,]+ tokens, fewer than one sequence of 100,000; raise"):
        stream(capped, sequence_length=100_000)


def test_every_rank_gives_equally_many_sequences_when_the_stream_ends(capped):
    counts = {len(list(stream(capped, rank=rank, world_size=4))) for rank in range(4)}
    assert len(counts) == 1


def test_phases_change_the_shares_at_their_token():
    phases = [
        ManifestPhase(from_token=0, weights={"a": 0.5, "b": 0.5}),
        ManifestPhase(from_token=1000, weights={"a": 0.0, "b": 1.0}),
    ]
    planner = Planner(phases, ["a", "b"], [500, 1500], 10)
    given_tokens = [planner.given.tolist() for _ in iter(planner.next_sequence, None)]
    assert len(given_tokens) == 200
    assert given_tokens[99] == [500, 500]
    assert given_tokens[-1] == [500, 1500]


def test_tokens_of_another_tokenizer_are_refused(tiny, tmp_path):
    write_header(
        tmp_path, snapshot="A", dtype="<u2", tokenizer_digest="new", end_of_document=0, vocab_size=9, shards=[]
    )
    from automixer_assets.corpus.shards import open_tokenized

    with pytest.raises(AutomixerError, match="is tokenised with new but the manifest counts tokens of tok"):
        MixtureStream(tiny.manifest, tiny.root, {"A": open_tokenized(tmp_path)}, sequence_length=4)


def test_a_rank_outside_the_world_is_refused(tiny):
    with pytest.raises(AutomixerError, match="rank 2 is not below world_size 2"):
        stream(tiny, rank=2, world_size=2)
