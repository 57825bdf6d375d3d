"""Is what is read of a group above its budget the sample that its keys give? The keys once more, without SQL."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import polars as pl

from automixer_assets.answers.findings import Check
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.shards import MixtureShards
from automixer_assets.mixture.manifest import ManifestGroup, Subsample
from automixer_assets.mixture.subsample import read_rank_scale


def sample_keys(selection: pl.DataFrame, group: str, sample: Subsample) -> np.ndarray:
    """-ln(u) / weight of a selection file's rows, [rows]; u from the id, the weight a rank (DESIGN: over budget)."""
    knots, ranks = np.array(sample.scale).T
    weights = np.interp(selection["joint_utility"].to_numpy(), knots, ranks)
    names = (f"{sample.seed}/{group}/{doc_id}".encode() for doc_id in selection["doc_id"])
    draws = [int.from_bytes(hashlib.md5(name, usedforsecurity=False).digest()[:8], "little") >> 11 for name in names]
    return -np.log((np.array(draws, dtype=np.float64) + 0.5) / 2**53) / weights


def is_sampled(selection: pl.DataFrame, group: ManifestGroup) -> np.ndarray:
    """[rows] bool: what is read of the group."""
    if group.subsample is None:
        return np.ones(selection.height, dtype=bool)
    return sample_keys(selection, group.name, group.subsample) <= group.subsample.cutoff


def check_samples(inputs: PinnedInputs, shards: MixtureShards) -> Check:
    """Sizes, cutoffs, seeds and scales of samples, and that there is one where the settings ask for it."""
    check = Check("samples", "Is a group above its budget read in the part that its keys give?")
    for group in inputs.manifest.groups:
        over = inputs.mixture.over_budget == "utility" and 0 < group.allocated_tokens < group.n_tokens
        if not over or group.subsample is None:
            check.equal(f"groups[{group.name}].subsample", group.subsample, None)
            continue
        check.equal(f"groups[{group.name}].subsample.seed", group.subsample.seed, inputs.mixture.sample_seed)
        with check.reading(f"groups[{group.name}].subsample"):
            _check_scale(check, inputs, group.name, group.subsample)
            _check_sample(check, shards, group, group.subsample)
    return check


def _check_scale(check: Check, inputs: PinnedInputs, group: str, sample: Subsample) -> None:
    stored, expected = np.array(sample.scale), np.array(read_rank_scale(inputs.grouped))
    for index, name in enumerate(("utility", "rank")):
        check.equal_rows(f"groups[{group}].subsample.scale, {name}", stored[:, index], expected[:, index])


def _check_sample(check: Check, shards: MixtureShards, group: ManifestGroup, sample: Subsample) -> None:
    """The cutoff lies halfway between the last key that is needed and the next."""
    where, last, following, last_tokens = f"groups[{group.name}].subsample", -math.inf, math.inf, 0
    n_documents = n_tokens = 0
    for shard in shards:
        selection = shard.selection(group.name)
        keys, tokens = sample_keys(selection, group.name, sample), selection["n_tokens"].to_numpy()
        inside = keys <= sample.cutoff
        n_documents, n_tokens = n_documents + int(inside.sum()), n_tokens + int(tokens[inside].sum())
        following = min(following, float(keys[~inside].min(initial=math.inf)))
        if inside.any() and (own := float(keys[inside].max())) >= last:
            last_tokens = int(tokens[keys == own].sum()) + (last_tokens if own == last else 0)
            last = own
    check.equal(f"{where}.n_documents", sample.n_documents, n_documents)
    check.equal(f"{where}.n_tokens", sample.n_tokens, n_tokens)
    check.close(f"{where}.cutoff", sample.cutoff, (last + following) / 2)
    enough = n_tokens - last_tokens < group.allocated_tokens <= n_tokens
    check.equal(f"{where}: just enough for {group.allocated_tokens:,} tokens", enough, True)
