"""A group above its budget is read in part: which part, and that every reader finds the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture import subsample as subsample_module
from automixer_assets.mixture.groups import Selection
from automixer_assets.mixture.manifest import Manifest, Subsample
from automixer_assets.mixture.selected import selected_shards
from automixer_assets.mixture.stream import MixtureStream, order_key
from automixer_assets.mixture.subsample import Scale, find_subsample, read_rank_scale, write_rank_scale
from automixer_assets_tests.mixture.builders import folder
from automixer_assets_tests.mixture.tiny import Tiny, tiny_mixture

quick = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
SCALE: Scale = ((0.0, 0.1), (1.0, 0.5), (3.0, 0.9))


def key_of(doc_id: str, utility: float, *, group: str = "g", seed: int = 0, scale: Scale = SCALE) -> float:
    """The key in plain Python."""
    number = int.from_bytes(hashlib.md5(f"{seed}/{group}/{doc_id}".encode()).digest()[:8], "little")
    u = ((number >> 11) + 0.5) / 2**53
    weight = float(np.interp(utility, [knot for knot, _ in scale], [rank for _, rank in scale]))
    return -math.log(u) / weight


def write_selections(root: Path, rows: Sequence[tuple[str, int, float]], shards: int = 2) -> list[Selection]:
    """Selection files of (doc_id, n_tokens, joint utility), dealt out to some shards."""
    selections = []
    for shard in range(shards):
        path = root / f"shard-{shard:05d}.parquet"
        part = rows[shard::shards]
        table = pl.DataFrame(
            {"row": range(len(part)), "doc_id": [r[0] for r in part], "n_tokens": [r[1] for r in part]},
            schema={"row": pl.Int64, "doc_id": pl.String, "n_tokens": pl.Int64},
        )
        utilities = pl.Series("joint_utility", [r[2] for r in part], pl.Float64)
        table.with_columns(utility=utilities, joint_utility=utilities).write_parquet(path)
        selections.append(Selection("g", "A", path.stem, path))
    return selections


def find(root: Path, rows: Sequence[tuple[str, int, float]], n_tokens: int, **options) -> Subsample | None:
    return find_subsample(
        write_selections(root, rows), group="g", n_tokens=n_tokens, **{"seed": 0, "scale": SCALE, **options}
    )


documents = st.lists(st.tuples(st.integers(1, 50), st.floats(-1, 4, allow_nan=False)), min_size=1, max_size=30).map(
    lambda rows: [(f"d{index:02d}", *row) for index, row in enumerate(rows)]
)


@quick
@given(rows=documents, share=st.floats(0.01, 1), one_bucket_at_a_time=st.booleans())
def test_the_sample_is_the_smallest_keys_that_have_the_tokens(rows, share, one_bucket_at_a_time):
    total = sum(n_tokens for _, n_tokens, _ in rows)
    wanted = max(1, math.floor(share * total))
    expected: list[tuple[str, int, float]] = []
    for row in sorted(rows, key=lambda row: key_of(row[0], row[2])):
        if sum(n_tokens for _, n_tokens, _ in expected) < wanted:
            expected.append(row)
    with folder() as root, pytest.MonkeyPatch.context() as patch:
        if one_bucket_at_a_time:
            patch.setattr(subsample_module, "RANKED_DOCUMENTS", 0)
        found = find(root, rows, wanted)
    if len(expected) == len(rows):
        assert found is None
        return
    assert found is not None
    assert (found.n_documents, found.n_tokens) == (len(expected), sum(n_tokens for _, n_tokens, _ in expected))
    assert {row[0] for row in rows if key_of(row[0], row[2]) <= found.cutoff} == {row[0] for row in expected}


@quick
@given(rows=documents, more=documents, share=st.floats(0.1, 0.9))
def test_added_documents_only_push_some_out(rows, more, share):
    wanted = max(1, math.floor(share * sum(n_tokens for _, n_tokens, _ in rows)))
    added = [*rows, *((f"new-{doc_id}", n_tokens, utility) for doc_id, n_tokens, utility in more)]
    with folder() as root:
        before, after = find(root, rows, wanted), find(root, added, wanted)
    if before is None:
        return
    assert after is not None
    kept = {row[0] for row in added if key_of(row[0], row[2]) <= after.cutoff}
    assert {doc_id for doc_id in kept if not doc_id.startswith("new-")} <= {
        row[0] for row in rows if key_of(row[0], row[2]) <= before.cutoff
    }


def test_documents_are_drawn_in_proportion_to_their_rank(tmp_path):
    """Of a small share, twice the weight is drawn twice as often: 4,000 documents of weight .2 and as many of .4."""
    scale = ((0.0, 0.2), (1.0, 0.4))
    rows = [(f"d{index}", 1, float(index % 2)) for index in range(8000)]
    found = find(tmp_path, rows, 300, scale=scale)
    assert found is not None
    assert found.n_tokens == 300
    drawn = [row[2] for row in rows if key_of(row[0], row[2], scale=scale) <= found.cutoff]
    # Two thirds, and a standard error of 2.7 points: draws without replacement from 8,000 are nearly independent.
    assert sum(drawn) / len(drawn) == pytest.approx(2 / 3, abs=0.08)


def test_groups_and_seeds_draw_independently(tmp_path):
    rows = [(f"d{index}", 1, 1.0) for index in range(2000)]

    def sample(group: str, seed: int) -> set[str]:
        selections = write_selections(tmp_path, rows)
        found = find_subsample(selections, group=group, n_tokens=1000, seed=seed, scale=SCALE)
        assert found is not None
        return {row[0] for row in rows if key_of(row[0], 1.0, group=group, seed=seed) <= found.cutoff}

    first = sample("g", 0)
    for other in (sample("h", 0), sample("g", 1)):
        assert len(first & other) == pytest.approx(500, abs=80)  # five standard deviations are 56


@quick
@given(st.lists(st.one_of(st.sampled_from([0.0, -0.0, 1.0]), st.floats(-1e6, 1e6)), min_size=1, max_size=200))
def test_the_scale_is_the_rank_among_the_documents(values):
    with folder() as root:
        pl.DataFrame({"joint_utility": values}, schema={"joint_utility": pl.Float64}).write_parquet(root / "j.parquet")
        write_rank_scale([root / "j.parquet"], root / "rank_scale.parquet")
        scale = read_rank_scale(root)
    knots, ranks = [knot for knot, _ in scale], [rank for _, rank in scale]
    assert knots == sorted(set(knots))
    assert ranks == sorted(ranks)
    assert all(0 < rank < 1 for rank in ranks)
    assert len(scale) <= 33
    for value in knots:
        below, tied = sum(each < value for each in values), sum(each == value for each in values)
        found = float(np.interp(value, knots, ranks)) * len(values)
        assert below <= found + 1e-6
        # Ties may share a bucket with other values, which are ranked linearly within it.
        near = sum(abs(each - value) <= abs(value) / 128 for each in values)
        assert found - 1e-6 <= below + max(tied, near)


def test_the_scale_follows_a_known_distribution(tmp_path):
    values = np.random.default_rng(1).normal(5.0, 2.0, 20_000)
    pl.DataFrame({"joint_utility": values}).write_parquet(tmp_path / "j.parquet")
    write_rank_scale([tmp_path / "j.parquet"], tmp_path / "rank_scale.parquet")
    scale = read_rank_scale(tmp_path)
    found = np.interp(values, [knot for knot, _ in scale], [rank for _, rank in scale])
    exact = (np.argsort(np.argsort(values)) + 0.5) / len(values)
    assert np.abs(found - exact).max() < 0.02


@pytest.fixture(scope="module")
def over(tmp_path_factory) -> Tiny:
    return tiny_mixture(tmp_path_factory.mktemp("lake"), token_budget=900)


def drawn(manifest: Manifest, tiny: Tiny, position: int) -> list[str]:
    parts = selected_shards(manifest.groups[position], tiny.root, tiny.snapshots)
    return [doc_id for part in parts for doc_id in part.documents["doc_id"]]


def test_a_manifest_of_a_small_budget_names_a_sample_of_each_group(over):
    for position, group in enumerate(over.manifest.groups):
        assert group.subsample is not None
        assert group.allocated_tokens <= group.read_tokens == group.subsample.n_tokens < group.n_tokens
        assert group.passes == group.allocated_tokens / group.read_tokens
        ids = drawn(over.manifest, over, position)
        assert len(ids) == group.read_documents
        scale = tuple(group.subsample.scale)
        selected = pl.concat(pl.read_parquet(over.root / shard.uri) for shard in group.shards)
        keys = {
            doc_id: key_of(doc_id, utility, group=group.name, scale=scale)
            for doc_id, utility in selected.select("doc_id", "joint_utility").iter_rows()
        }
        assert set(ids) == {doc_id for doc_id, key in keys.items() if key <= group.subsample.cutoff}


def test_a_stream_reads_the_sample_in_seeded_hash_order_and_nothing_else(over):
    stream = MixtureStream(over.manifest, over.root, over.snapshots, sequence_length=10, seed=3)
    tables = [shard.documents for snapshot in over.snapshots.values() for shard in snapshot.shards]
    lengths = dict(pl.concat(tables).select("doc_id", "n_tokens").iter_rows())
    for position, group in enumerate(stream.groups):
        ids = sorted(drawn(over.manifest, over, position), key=lambda doc_id: order_key(doc_id, 3, 0))
        assert group.n_tokens == over.manifest.groups[position].read_tokens
        tokens = np.empty(group.n_tokens, np.int64)
        group.fill(tokens, 0)
        # Token ids say which document they belong to; the last of each is the end-of-document id.
        seen = list(dict.fromkeys(f"d{token // 100 - 1:02d}" for token in tokens.tolist() if token))
        assert seen == [doc_id for doc_id in ids if lengths[doc_id] > 1]
    assert len(list(islice(stream, 90))) == 90


def test_hash_order_reads_any_part_of_the_whole_group(tmp_path):
    tiny = tiny_mixture(tmp_path, token_budget=900, over_budget="hash_order")
    for position, group in enumerate(tiny.manifest.groups):
        assert group.subsample is None
        assert len(drawn(tiny.manifest, tiny, position)) == group.n_documents == group.read_documents
        assert group.passes == pytest.approx(group.exposure)


def test_another_seed_draws_another_sample(over, tmp_path):
    other = tiny_mixture(tmp_path, token_budget=900, sample_seed=1)
    assert other.manifest.digest != over.manifest.digest
    assert set(drawn(other.manifest, other, 0)) != set(drawn(over.manifest, over, 0))


def test_a_lake_that_gives_another_sample_is_refused(over):
    group = over.manifest.groups[0]
    assert group.subsample is not None
    wrong = group.model_copy(update={"subsample": group.subsample.model_copy(update={"n_documents": 1})})
    with pytest.raises(AutomixerError, match="documents where the manifest counts 1;"):
        list(selected_shards(wrong, over.root, over.snapshots))


def test_a_reader_may_ask_for_some_shards_of_a_sample(over):
    group = over.manifest.groups[0]
    everything = drawn(over.manifest, over, 0)
    last = group.model_copy(update={"shards": group.shards[1:]})
    ids = [doc_id for part in selected_shards(last, over.root, over.snapshots) for doc_id in part.documents["doc_id"]]
    assert 0 < len(ids) < len(everything)
    assert ids == everything[-len(ids) :]


def test_groups_without_a_scale_are_refused(tmp_path):
    with pytest.raises(AutomixerError, match=r"rank_scale\.parquet is missing.*hash_order"):
        read_rank_scale(tmp_path)
