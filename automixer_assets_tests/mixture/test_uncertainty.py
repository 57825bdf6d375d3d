from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from automixer_assets.mixers.influence_density import InfluenceDensity
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.manifest import is_doubtful
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.uncertainty import BucketSums, bucket_sums, weight_intervals
from automixer_assets.mixture.weights import group_tables
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint
from automixer_assets_tests.mixture.tiny import tiny_mixture

quick = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sums_of(root, documents: list[Document], groups: list[str], top_share: float = 1.0) -> BucketSums:
    regroup(joint=write_joint(root, documents, groups), top_share=top_share, out=root / "grouped")
    return bucket_sums(list_selections(root / "grouped"))


@quick
@given(table=joint_tables(zero_tokens=False))
def test_every_bucket_once_is_the_corpus_itself(table):
    groups, documents = table
    with folder() as root:
        sums = sums_of(root, documents, groups, 0.5)
        expected = group_tables(root / "grouped")
    assume(all(each.n_tokens for each in expected))
    for found, each in zip(sums.tables(np.ones(sums.n_tokens.shape[1])), expected, strict=True):
        assert (found.name, found.n_documents, found.n_tokens) == (each.name, each.n_documents, each.n_tokens)
        assert found.density == pytest.approx(each.density, rel=1e-9, abs=1e-6)
        assert found.density_scaled == pytest.approx(each.density_scaled, rel=1e-6, abs=1e-6)
        assert found.token_product == pytest.approx(each.token_product, rel=1e-6, abs=1e-5)


def _corpus(rng: np.random.Generator, n: int, spread: float = 0.3) -> list[Document]:
    documents = []
    for number in range(n):
        shard, row = divmod(number, 250)
        utilities = {"a": float(rng.normal(3, spread)), "b": float(rng.normal(1, spread))}
        joint = float(rng.normal(2 if number % 2 else 1, spread))
        documents.append(Document("A", f"shard-{shard:05d}", row, f"d{number:05d}", 10, utilities, joint))
    return documents


def test_a_document_is_in_one_bucket_whatever_the_group_and_buckets_fill_evenly(tmp_path):
    sums = sums_of(tmp_path, _corpus(np.random.default_rng(0), 5000), ["a", "b"])
    assert (sums.n_documents[0] == sums.n_documents[1]).all()  # everything is kept by both
    assert sums.n_documents.sum(axis=1).tolist() == [5000, 5000]
    assert sums.n_documents.max() <= 2 * 5000 / sums.n_documents.shape[1]


def test_the_interval_is_as_wide_as_sampling_theory_says(tmp_path):
    documents = _corpus(np.random.default_rng(1), 4000)
    sums = sums_of(tmp_path, documents, ["a", "b"], 0.5)
    intervals = weight_intervals(sums, InfluenceDensity(), replicates=2000)
    rows = {
        name: [each.joint_utility for each in sorted(documents, key=lambda d, n=name: -d.utilities[n])[:2000]]
        for name in ("a", "b")
    }
    mean = {name: np.mean(values) for name, values in rows.items()}
    # w = rho_a / (rho_a + rho_b) to first order, groups nearly independent: all documents have equal length.
    variance = {name: np.var(values) / 2000 for name, values in rows.items()}
    total = mean["a"] + mean["b"]
    error = math.sqrt(variance["a"] * mean["b"] ** 2 + variance["b"] * mean["a"] ** 2) / total**2
    low, high = intervals[0].low, intervals[0].high
    assert low is not None and high is not None
    # Both groups share about half of their documents, which narrows the interval a little.
    assert 0.6 * 2 * 1.96 * error < high - low < 1.25 * 2 * 1.96 * error
    assert low < mean["a"] / total < high


def test_intervals_are_the_same_every_time_and_change_with_the_seed(tmp_path):
    sums = sums_of(tmp_path, _corpus(np.random.default_rng(2), 1000), ["a", "b"], 0.5)
    first = weight_intervals(sums, InfluenceDensity(), replicates=200)
    assert first == weight_intervals(sums, InfluenceDensity(), replicates=200)
    assert first != weight_intervals(sums, InfluenceDensity(), replicates=200, seed=1)


def test_where_a_replicate_has_no_weights_the_interval_is_undefined_and_counted(tmp_path):
    rng = np.random.default_rng(3)
    documents = [
        Document("A", "shard-00000", row, f"d{row}", 10, {"a": float(rng.normal()), "b": float(rng.normal())}, joint)
        for row, joint in enumerate(rng.normal(0.01, 1, 200).tolist())
    ]
    intervals = weight_intervals(sums_of(tmp_path, documents, ["a", "b"]), InfluenceDensity(), replicates=200)
    assert all(each.low is None and each.high is None for each in intervals)
    assert 0 < intervals[0].n_undefined < 200


@pytest.mark.parametrize(("interval", "doubtful"), [((0.1, 0.2), True), ((0.1, 0.19), False), (None, True)])
def test_an_interval_that_spans_a_factor_of_two_is_doubtful(interval, doubtful):
    assert is_doubtful(interval) is doubtful


def test_a_manifest_has_an_interval_around_every_weight(tmp_path):
    manifest = tiny_mixture(tmp_path).manifest
    for group in manifest.groups:
        assert group.weight_interval is not None
        assert group.weight_interval[0] < group.weight < group.weight_interval[1]
