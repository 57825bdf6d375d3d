"""Blocking checks: what must be true of an artefact before anything is built on it. They read the published folder."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import polars as pl

from automixer_assets.benchmark.runner import read_left_out
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import CheckOutcome, Comparison
from automixer_assets.metadata import number
from automixer_assets.mixture.item_uncertainty import DENSITIES
from automixer_assets.mixture.ledger import TOLERANCE
from automixer_assets.mixture.manifest import load_manifest, validate_manifest_json
from automixer_assets.proxy.imported import USABLE
from automixer_assets.settings import Limits

LIMITS_FILE = "limits.json"
"""The mixture's `limits`, beside its manifest."""

ADDING_UP = 1e-2
"""Of what an item carries; between two passes in single or half precision. Other items or documents give far more."""


def check_unique_documents(artifact: Artifact) -> CheckOutcome:
    ids = pl.scan_parquet(artifact.path / "documents" / "*.parquet").select("doc_id")
    rows, distinct = ids.select(pl.len(), pl.col("doc_id").n_unique().alias("distinct")).collect().row(0)
    return CheckOutcome(rows == distinct, f"{rows:,} rows, {distinct:,} distinct ids")


def check_tokens(artifact: Artifact) -> CheckOutcome:
    for shard in open_tokenized(artifact.path).shards:
        documents = shard.documents
        expected = (documents["n_tokens"].cum_sum() - documents["n_tokens"]).to_list()
        n_bytes = int(documents["n_tokens"].sum()) * np.dtype(shard.dtype).itemsize
        if documents["offset"].to_list() != expected or n_bytes != shard.tokens_path.stat().st_size:
            return CheckOutcome(
                False, f"{shard.name}: offsets and lengths do not cover {shard.tokens_path.name} exactly"
            )
    return CheckOutcome(True, "every document's ids lie where its row says")


def check_disjoint(artifact: Artifact) -> CheckOutcome:
    sets = pl.read_parquet(artifact.path / "item_sets.parquet")
    shared = (
        sets.group_by("task", "item_hash").agg(pl.col("item_set").n_unique().alias("sets")).filter(pl.col("sets") > 1)
    )
    return CheckOutcome(shared.is_empty(), f"{sets.height:,} items, {shared.height} in more than one set")


def check_loss(artifact: Artifact) -> CheckOutcome:
    loss = pl.read_parquet(artifact.path / "training.parquet")["loss"]
    first, last = float(loss[0]), number(loss.tail(max(1, loss.len() // 20)).mean())
    finite = bool(loss.is_finite().fill_null(False).all())
    return CheckOutcome(finite and last < first, f"loss went from {first:.3f} to {last:.3f}")


def check_imported(artifact: Artifact) -> CheckOutcome:
    checkpoints = pl.read_parquet(artifact.path / "checkpoints.parquet")
    usable = checkpoints.filter(pl.col("status") == USABLE)
    reasons = [f"{name}: {reason}" for name, reason in checkpoints.select("name", "reason").iter_rows() if reason]
    found = f"{usable.height} of {checkpoints.height} checkpoints are usable"
    return CheckOutcome(bool((usable["step"] > 0).any()), "; ".join([found, *reasons[:3]]))


def check_results(artifact: Artifact) -> CheckOutcome:
    table = pl.read_parquet(artifact.path / "benchmark.parquet")
    return _complete_and_finite(table, "checkpoint")


def check_all_asked(artifact: Artifact) -> CheckOutcome:
    left_out = read_left_out(artifact.path)
    if left_out.is_empty():
        return CheckOutcome(True, "every item was asked")
    named = [
        f"{len(rows)} of {task} ({', '.join(map(str, rows[:5]))}{', ...' if len(rows) > 5 else ''})"
        for task, rows in left_out.group_by("task", maintain_order=True).agg("doc_index").iter_rows()
    ]
    return CheckOutcome(
        False,
        f"asked of no model: {'; '.join(named)}. Each has an option that is empty or longer than the "
        f"{left_out['context_length'].min()} tokens that the model reads (up to {left_out['n_tokens'].max()}). Results "
        "of checkpoints and mixtures stay comparable, but are those of the other items: mend these, or train with a "
        "longer training.sequence_length",
    )


ALL_ASKED = Comparison(
    "every_item_was_asked",
    "No benchmark item was left out for an option that the model cannot read.",
    lambda scope, artifact: check_all_asked(artifact),
)


def check_finite(artifact: Artifact) -> CheckOutcome:
    scores = pl.scan_parquet(artifact.path / "shard-*.parquet").drop("doc_id")
    bad = (
        scores.select(pl.any_horizontal(pl.all().cast(pl.Float64).is_finite().not_().fill_null(True)).sum())
        .collect()
        .item()
    )
    return CheckOutcome(bad == 0, f"{bad} documents with a score that is not finite")


def check_alphas(artifact: Artifact) -> CheckOutcome:
    alphas = pl.read_parquet(artifact.path / "selected.parquet")["alpha"]
    total = float(alphas.sum())
    return CheckOutcome(abs(total - 1) < 1e-9 and bool((alphas > 0).all()), f"sum of alphas {total:.12f}")


def check_joint(artifact: Artifact) -> CheckOutcome:
    joint = pl.scan_parquet(artifact.path / "shard-*.parquet")
    rows, distinct, finite = (
        joint.select(
            pl.len(),
            pl.col("doc_id").n_unique().alias("distinct"),
            pl.col("joint_utility").is_finite().fill_null(False).all().alias("finite"),
        )
        .collect()
        .row(0)
    )
    return CheckOutcome(rows == distinct and finite, f"{rows:,} rows, {distinct:,} distinct ids, all finite: {finite}")


def check_kept(artifact: Artifact) -> CheckOutcome:
    groups = pl.read_parquet(artifact.path / "groups.parquet")
    share = Fraction((artifact.path / "top_share.json").read_text().strip())
    wrong = [
        f"{row['group']} keeps {row['n_documents']} of {row['n_candidates']}"
        for row in groups.iter_rows(named=True)
        if row["n_documents"] != math.ceil(share * row["n_candidates"])
    ]
    return CheckOutcome(not wrong, "; ".join(wrong) or f"every group keeps ceil({share} x candidates)")


def check_contributions(artifact: Artifact) -> CheckOutcome:
    """Two passes over different texts must agree: documents against tasks, and items against documents."""
    table = pl.read_parquet(artifact.path / DENSITIES)
    gaps = (table["carried_utility"] - table["scored_utility"]).abs()
    agree = bool((gaps <= ADDING_UP * table["magnitude"]).all())
    return CheckOutcome(
        agree, f"largest gap {number(gaps.max()):.3g} where items carry {number(table['magnitude'].max()):.3g}"
    )


def check_schema(artifact: Artifact) -> CheckOutcome:
    try:
        validate_manifest_json(json.loads((artifact.path / "manifest.json").read_text()))
    except AutomixerError as error:
        return CheckOutcome(False, str(error))
    return CheckOutcome(True, "manifest.json follows manifest.schema.json")


def check_weights(artifact: Artifact) -> CheckOutcome:
    document = json.loads((artifact.path / "manifest.json").read_text())  # not load_manifest, which would refuse it
    weights = [group.get("weight", math.nan) for group in document.get("groups", [])]
    total = math.fsum(weights)
    return CheckOutcome(abs(total - 1) < 1e-9 and min(weights) >= 0, f"sum of weights {total:.12f}")


def check_budget(artifact: Artifact) -> CheckOutcome:
    try:
        manifest = load_manifest(artifact.path / "manifest.json")
    except AutomixerError as error:
        return CheckOutcome(False, str(error))
    allocated = sum(group.allocated_tokens for group in manifest.groups)
    return CheckOutcome(
        allocated + manifest.shortfall == manifest.token_budget,
        f"{allocated:,} tokens allocated + {manifest.shortfall:,} shortfall = {manifest.token_budget:,} budget",
    )


def check_document_exposure(artifact: Artifact) -> CheckOutcome:
    limit = _limits(artifact).max_document_exposure
    most = pl.read_parquet(artifact.path / "most_read.parquet").row(0, named=True)
    found = (
        f"document {most['doc_id']!r} of {most['snapshot']} is read {most['expected_exposures']:.3g} times, more often "
        f"than any other (groups that hold its text: {most['n_groups']}, copies in one: {most['n_copies']})"
    )
    if limit is None or most["expected_exposures"] <= limit * (1 + TOLERANCE):
        return CheckOutcome(True, f"{found}; {_in_words(limit)}")
    remedy = "set the mixture's `max_document_epochs`, keep one of its copies by `copies: first`, or lower the budget"
    return CheckOutcome(False, f"{found}, above `limits.max_document_exposure: {limit:g}`; {remedy}")


def check_group_epochs(artifact: Artifact) -> CheckOutcome:
    limit, manifest = _limits(artifact).max_group_epochs, load_manifest(artifact.path / "manifest.json")
    most = max(manifest.groups, key=lambda group: group.exposure)
    found = f"group {most.name} is read {most.exposure:.3g} times, more often than any other"
    if limit is None or most.exposure <= limit * (1 + TOLERANCE):
        return CheckOutcome(True, f"{found}; {_in_words(limit)}")
    remedy = "set the mixture's `max_epochs`, raise `top_share` or lower the budget"
    return CheckOutcome(False, f"{found}, above `limits.max_group_epochs: {limit:g}`; {remedy}")


def check_shortfall(artifact: Artifact) -> CheckOutcome:
    limit, manifest = _limits(artifact).max_shortfall, load_manifest(artifact.path / "manifest.json")
    share = manifest.shortfall / manifest.token_budget
    found = f"the caps leave {manifest.shortfall:,} of {manifest.token_budget:,} tokens ({share:.2%}) unfilled"
    if limit is None or share <= limit:
        return CheckOutcome(True, f"{found}; {_in_words(limit)}")
    stopped = "; ".join(f"{group.name} stops at {group.stopped_by}" for group in manifest.groups if group.stopped_by)
    remedy = f"lower `token_budget` to {manifest.token_budget - manifest.shortfall:,}, raise caps or add snapshots"
    return CheckOutcome(False, f"{found}, above `limits.max_shortfall: {limit:g}` ({stopped}); {remedy}")


def check_group_sizes(artifact: Artifact) -> CheckOutcome:
    limits, manifest = _limits(artifact), load_manifest(artifact.path / "manifest.json")
    sizes = {"documents": limits.min_group_documents, "tokens": limits.min_group_tokens}
    found, small = [], []
    for name, limit in sizes.items():
        least = min(manifest.groups, key=lambda group: getattr(group, f"read_{name}"))
        size = getattr(least, f"read_{name}")
        found.append(f"group {least.name} has the fewest {name} to read, {size:,}; {_in_words(limit)}")
        if limit is not None and size < limit:
            small.append(f"group {least.name} has {size:,} {name} to read, below `limits.min_group_{name}: {limit:,}`")
    remedy = "; raise `top_share`, add snapshots, or drop the group's checkpoint from the recipe"
    return CheckOutcome(not small, "; ".join(small) + remedy if small else "; ".join(found))


def _limits(artifact: Artifact) -> Limits:
    return Limits.model_validate_json((artifact.path / LIMITS_FILE).read_text())


def _in_words(limit: float | None) -> str:
    return "no limit is set" if limit is None else f"the limit is {limit:,g}"


def check_targets(artifact: Artifact) -> CheckOutcome:
    benchmark = pl.read_parquet(artifact.path / "benchmark.parquet")
    return _complete_and_finite(benchmark, "seed")


def _complete_and_finite(results: pl.DataFrame, by: str) -> CheckOutcome:
    """One result per `by` and task; null counts as not finite."""
    expected = results[by].n_unique() * results["task"].n_unique()
    found = results.select(by, "task").n_unique()
    values = pl.col("acc", "gold_nll").is_finite().fill_null(False)
    finite = bool(results.select(pl.all_horizontal(values).all()).item())
    return CheckOutcome(
        found == results.height == expected and finite,
        f"{found} of {expected} results in {results.height} rows, all finite: {finite}",
    )


def check_comparison(artifact: Artifact) -> CheckOutcome:
    table = pl.read_parquet(artifact.path / "comparison.parquet")
    paired = int(table["difference"].is_finite().fill_null(False).sum())
    counts = table["n_seeds"]
    return CheckOutcome(
        paired == table.height,
        f"{paired} of {table.height} results have a difference; {counts.min()} to {counts.max()} seeds per mixture",
    )
