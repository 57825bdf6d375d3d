"""Are a manifest's numbers what its groups give? Densities, weights, intervals, the budget, and the exposure ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.answers.findings import Check
from automixer_assets.answers.formulas import (
    Run,
    densities,
    play,
    weights_by_appendix_b,
    weights_by_equation,
    weights_by_size,
)
from automixer_assets.answers.groups import Counted
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.samples import is_sampled
from automixer_assets.answers.shards import MixtureShards
from automixer_assets.mixers import mixer_of
from automixer_assets.mixture.constraints import allocate_budget
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.item_uncertainty import density_shifts, read_contributions
from automixer_assets.mixture.uncertainty import REPLICATES, weight_intervals
from automixer_assets.mixture.weights import GroupTable, size_power

ROWS_AT_ONCE = 2_000_000
"""Rows of the exposure ledger that are held in memory."""


def check_weights(inputs: PinnedInputs, counted: Counted) -> tuple[Check, dict[str, float]]:
    """Densities, weights by both rules, contrast and intervals; returns the weights that the budget is to follow.

    That is the stored weight where it is right, so that a wrong one is blamed once, and not for what follows from it.
    """
    check = Check("weights", "Are densities, weights and intervals those of the groups?")
    groups, sums = inputs.manifest.groups, counted.sums
    found = densities(sums, counted.lowest, counted.highest)
    scaled_terms = max(abs(counted.lowest), abs(counted.highest)) / ((counted.highest - counted.lowest) or 1.0)
    for i, group in enumerate(groups):
        where = f"groups[{group.name}]"
        check.equal(f"{where}.n_documents", group.n_documents, sums[i].n_documents)
        check.equal(f"{where}.n_tokens", group.n_tokens, sums[i].n_tokens)
        check.close(f"{where}.density", group.density, found.density[i], counted.utility_terms[i] / sums[i].n_tokens)
        check.close(f"{where}.density_scaled", group.density_scaled, found.density_scaled[i], scaled_terms)
    appendix_b, equation = weights_by_appendix_b(found.token_product), weights_by_equation(found.density)
    power = size_power(inputs.mixture.weight_rule)
    weights = equation if inputs.mixture.weight_rule == "equation" else appendix_b
    if power is not None:
        weights = weights_by_size([each.n_tokens for each in sums], power)
    used: dict[str, float] = {}
    for group, weight, other in zip(groups, weights, appendix_b, strict=True):
        right = check.close(f"groups[{group.name}].weight", group.weight, weight)
        used[group.name] = group.weight if right else weight
        check.close(f"groups[{group.name}].weight_appendix_b", group.weight_appendix_b, other)
    smallest = min(used.values())
    check.close("weight_contrast", inputs.manifest.weight_contrast, max(used.values()) / smallest if smallest else None)
    with check.reading("groups[...].weight_interval"):
        _check_intervals(check, inputs, counted)
    return check, used


def _check_intervals(check: Check, inputs: PinnedInputs, counted: Counted) -> None:
    shifts = None
    if ("item_contributions", inputs.manifest.mixture) in inputs.pins:
        carried = read_contributions(inputs.folder("item_contributions", inputs.manifest.mixture))
        shifts = density_shifts(carried, REPLICATES)
    intervals = weight_intervals(counted.buckets(), mixer_of(inputs.mixture), shifts=shifts)
    for group, interval in zip(inputs.manifest.groups, intervals, strict=True):
        stored = group.weight_interval or (None, None)
        for end, found, expected in zip(("low", "high"), stored, (interval.low, interval.high), strict=True):
            check.close(f"groups[{group.name}].weight_interval.{end}", found, expected)


def check_budget(inputs: PinnedInputs, weights: Mapping[str, float]) -> Check:
    """Tokens per group, phases and shortfall, by playing the run; exposure is tokens over the group's size."""
    check = Check("budget", "Do exposures, phases and shortfall follow from weights, caps and budget?")
    manifest, mixture = inputs.manifest, inputs.mixture
    allocated = sum(group.exposure * group.n_tokens for group in manifest.groups) + manifest.shortfall
    check.equal("token_budget: exposures x tokens + shortfall", manifest.token_budget, round(allocated))
    if mixture.max_document_epochs is None:
        run = play(weights, _caps(inputs), manifest.token_budget)
    else:
        check.note = "limits on documents by the program's own allocation"
        run = _allocated(inputs, weights)
    exact = all(group.weight == weights[group.name] for group in manifest.groups)
    for group in manifest.groups:
        where, tokens = f"groups[{group.name}].exposure", run.tokens[group.name]
        stopped = group.name in run.stopped
        check.equal(f"groups[{group.name}].stopped_by, whether", group.stopped_by is not None, stopped)
        if exact or abs(group.exposure * group.n_tokens - tokens) > 1:  # a recomputed weight may round otherwise
            check.close(where, group.exposure, tokens / group.n_tokens)
    check.equal("shortfall", manifest.shortfall, run.shortfall)
    check.equal("phases: from_token", [phase.from_token for phase in manifest.phases], [at for at, _ in run.phases])
    for phase, (at, expected) in zip(manifest.phases, run.phases, strict=False):
        check.equal(f"phases[{at}].weights: groups", sorted(phase.weights), sorted(expected))
        for name in phase.weights.keys() & expected.keys():
            check.close(f"phases[{at}].weights[{name}]", phase.weights[name], expected[name])
    return check


def _caps(inputs: PinnedInputs) -> dict[str, int]:
    """Tokens at which groups stop; a group's own cap replaces `max_epochs`."""
    mixture = inputs.mixture
    caps: dict[str, int] = {}
    for group in inputs.manifest.groups if mixture.exhaustion_policy == "stop_and_raise_others" else ():
        own = mixture.group_caps.get(group.name)
        epochs, tokens = (mixture.max_epochs, None) if own is None else (own.epochs, own.tokens)
        ends = [] if epochs is None else [math.floor(Fraction(str(epochs)) * group.n_tokens)]
        ends += [] if tokens is None else [tokens]
        if ends:
            caps[group.name] = min(ends)
    return caps


def _allocated(inputs: PinnedInputs, weights: Mapping[str, float]) -> Run:
    tables = [
        GroupTable(each.name, each.n_documents, each.n_tokens, each.density, each.density_scaled, 0.0)
        for each in inputs.manifest.groups
    ]
    snapshots = {name: inputs.corpus(name) for name in inputs.manifest.snapshots}
    found = allocate_budget(inputs.mixture, tables, list(weights.values()), list_selections(inputs.grouped), snapshots)
    phases = [(phase.from_token, phase.weights) for phase in found.phases]
    return Run(found.tokens, phases, found.shortfall, frozenset(found.stopped_by))


def check_exposure(inputs: PinnedInputs, shards: MixtureShards) -> Check:
    """`exposure.parquet`: per text the sum over its copies and groups of the group's exposure."""
    check = Check("exposure ledger", "Is every text's exposure the sum over its copies and groups?")
    path = inputs.ledger
    if path is None:
        check.note = "the ledger lies beside the published manifest, which this state does not have"
        return check
    with check.reading(str(path)):
        n_rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        parts = 1 << max(0, math.ceil(math.log2(max(n_rows, 1) / ROWS_AT_ONCE)))
        total = 0
        for part in range(parts):
            stored = pl.scan_parquet(path).filter(_part_of(parts) == part).collect()
            total += stored.height
            _compare_ledger(check, path, stored, _ledger(inputs, shards, parts, part))
        check.equal(f"{path}: rows", n_rows, total)
    return check


def _part_of(parts: int) -> pl.Expr:
    """Which part of the ledger a content hash is in, by its first digits."""
    return pl.col("content_hash").str.slice(0, 4).str.to_integer(base=16, strict=False).fill_null(0) % parts


def _ledger(inputs: PinnedInputs, shards: MixtureShards, parts: int, part: int) -> pl.DataFrame:
    """content_hash, n_tokens, n_groups, expected_exposures of one part, by hash."""
    groups = {group.name: group for group in inputs.manifest.groups}
    frames = []
    for shard in shards:
        source = inputs.corpus(shard.snapshot).folder / f"{shard.name}.parquet"
        hashes = pl.read_parquet(source, columns=["content_hash"]).with_row_index("row").cast({"row": pl.Int64})
        hashes = hashes.filter(_part_of(parts) == part)
        for i, group in enumerate(shard.groups):
            selection = shard.selection(group)
            passes = groups[group].passes * is_sampled(selection, groups[group])
            rows = selection.select("row", "n_tokens", passes=pl.Series(values=passes)).join(hashes, on="row")
            place = {"group": pl.lit(i), "snapshot": pl.lit(shard.snapshot)}
            frames.append(rows.select("content_hash", "n_tokens", "passes", **place))
    texts = pl.concat(frames).group_by("content_hash")
    return texts.agg(
        pl.col("n_tokens").max(),
        pl.col("group").n_unique().alias("n_groups"),
        pl.col("group").unique_counts().max().alias("n_copies"),
        (pl.col("snapshot").n_unique() > 1).alias("in_several_snapshots"),
        pl.col("passes").sum().alias("expected_exposures"),
    ).sort("content_hash")


def _compare_ledger(check: Check, path: Path, stored: pl.DataFrame, expected: pl.DataFrame) -> None:
    both = stored.join(expected, on="content_hash", how="full", suffix="_recomputed", coalesce=True)
    lacking = both.filter(pl.col("n_tokens").is_null() | pl.col("n_tokens_recomputed").is_null())
    for content, *_ in lacking.head(20).iter_rows():
        check.differ(
            f"{path}: content {content}", content in stored["content_hash"], content in expected["content_hash"]
        )
    both = both.drop_nulls().sort("content_hash")
    for column in expected.columns[1:]:
        found, right = (both[name].to_numpy().astype(np.float64) for name in (column, f"{column}_recomputed"))
        check.n_compared += len(found)
        wrong = np.flatnonzero(~(np.abs(found - right) <= 1e-9 * np.maximum(np.abs(found), np.abs(right))))
        for row in wrong.tolist():
            check.differ(f"{path}: {column} of content {both['content_hash'][row]}", found[row], right[row])
