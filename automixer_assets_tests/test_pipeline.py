"""The whole pipeline on a tiny world: everything is made, checked, documented, and equal to a recomputation by hand."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest

from automixer_assets.assets import all_assets
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.microworld.truth import planted_auc, read_truth, teaching_share
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.manifest import Manifest, load_manifest, manifest_digest, validate_manifest_json
from automixer_assets.mixture.selected import selected_shards
from automixer_assets.resources import PROJECT_ROOT, Automixer
from automixer_assets_tests.world import (
    EXTRA_ID,
    FIRST_SNAPSHOTS,
    MIXTURES,
    N_DOCUMENTS,
    NOT_ASKED_FOR,
    REJECTED,
    TARGET_STEPS,
    TOKEN_BUDGET,
    World,
)

N_UNION = sum(N_DOCUMENTS.values())
WARNINGS = {
    ("joint_influence", "resembles_previous_snapshots"),
    ("weight_manifest", "moved_within_bounds"),
    ("demo/benchmark_table", "every_item_was_asked"),
    ("target_runs", "every_item_was_asked"),
}
BLOCKING_CHECKS = {
    ("snapshot_inventory", "one_row_per_document"),
    ("tokenized_corpus", "tokens_match_documents"),
    ("validation_items", "item_sets_disjoint"),
    ("demo/proxy_run", "loss_is_finite_and_fell"),
    ("demo/benchmark_table", "no_missing_results"),
    ("demo/checkpoint_influence", "finite_scores"),
    ("selected_checkpoints", "alphas_sum_to_one"),
    ("joint_influence", "one_row_per_document"),
    ("grouped_shards", "kept_share_is_exact"),
    ("weight_manifest", "follows_its_schema"),
    ("weight_manifest", "weights_sum_to_one"),
    ("weight_manifest", "token_budget_respected"),
    ("weight_manifest", "documents_within_limit"),
    ("weight_manifest", "groups_within_limit"),
    ("weight_manifest", "shortfall_within_limit"),
    ("weight_manifest", "groups_are_large_enough"),
    ("target_runs", "every_seed_finished"),
    ("comparison_table", "all_paired"),
}


def partitions(world: World) -> dict[str, list[str]]:
    """Every asset with the partitions that the settings ask for."""
    checkpoints = world.checkpoints()
    by_snapshot = {name: [f"{name}|{snapshot}" for snapshot in FIRST_SNAPSHOTS] for name in (*checkpoints, *MIXTURES)}
    return {
        "snapshot_inventory": list(FIRST_SNAPSHOTS),
        "tokenized_corpus": list(FIRST_SNAPSHOTS),
        "tokenizer": [],
        "validation_items": [],
        "reference_sample": [],
        "scored_items": [],
        "leakage": list(FIRST_SNAPSHOTS),
        "demo/proxy_run": [],
        "demo/benchmark_table": [],
        "demo/proxy_checkpoints": checkpoints,
        "demo/influence_query": checkpoints,
        "demo/checkpoint_influence": [key for name in checkpoints for key in by_snapshot[name]],
        "selected_checkpoints": ["demo"],
        "joint_influence": [key for name in MIXTURES for key in by_snapshot[name]],
        "grouped_shards": list(MIXTURES),
        "weight_manifest": list(MIXTURES),
        "weight_uncertainty": list(MIXTURES),
        "group_characteristics": list(MIXTURES),
        "target_runs": list(MIXTURES),
        "comparison_table": [],
        "progress_ratio_table": [],
    }


def manifest_of(world: World, mixture: str = "demo") -> Manifest:
    return load_manifest(world.path("weight_manifest", mixture) / "manifest.json")


def test_every_partition_of_every_asset_is_published_whole(finished: World):
    expected = partitions(finished)
    with finished.active():
        assets = {item.asset for item in all_assets(Automixer().settings())}
    assert set(expected) == assets - NOT_ASKED_FOR
    for asset, keys in expected.items():
        for key in keys or [None]:
            artifact = finished.artifact(asset, key)
            assert finished.latest(asset, key).pin.data_version == artifact.content
            assert artifact.files, f"{asset}[{key}] is an empty folder"
    assert [path.name for path in finished.lake.root.rglob(".*")] == [], "no working folder, lock or temporary is left"


def test_every_check_is_recorded_as_passed_for_every_partition(finished: World):
    with finished.active():
        assets = all_assets(Automixer().settings())
    specs = [spec for item in assets if item.asset not in NOT_ASKED_FOR for spec in item.definition.check_specs]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} == BLOCKING_CHECKS
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking} == WARNINGS
    for spec in specs:
        evaluations = evaluations_of(finished.instance, spec.key)
        assert len(evaluations) == len(partitions(finished)[spec.asset_key.to_user_string()] or [None])
        assert all(evaluation.passed for evaluation in evaluations), spec.key
        assert all(evaluation.description for evaluation in evaluations), spec.key


def evaluations_of(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[dg.AssetCheckEvaluation]:
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    events = [record.event.dagster_event for record in records if record.event is not None]
    return [event.asset_check_evaluation_data for event in events if event is not None]


# Column -> type, per table. A group's or direction's name stands for as many columns as there are.
INVENTORY = {
    "doc_id": pl.String, "file": pl.String, "row": pl.Int64, "content_hash": pl.String, "n_characters": pl.Int64,
    "url": pl.String, "dump": pl.String, "date": pl.String, "file_path": pl.String, "language": pl.String,
    "language_score": pl.Float64, "token_count": pl.Int64, "score": pl.Float64, "int_score": pl.Int64,
    "licence": pl.String,
}  # fmt: skip
BENCHMARK = {
    "checkpoint": pl.String, "step": pl.Int64, "progress": pl.Float64, "task": pl.String, "acc": pl.Float64,
    "acc_stderr": pl.Float64, "acc_norm": pl.Float64, "acc_norm_stderr": pl.Float64, "chance": pl.Float64,
    "gold_nll": pl.Float64, "gold_nll_stderr": pl.Float64, "gold_bits_per_byte": pl.Float64, "n_items": pl.Int64,
}  # fmt: skip
ITEMS = {
    "checkpoint": pl.String, "step": pl.Int64, "task": pl.String, "doc_index": pl.Int64, "item_hash": pl.String,
    "acc": pl.Float64, "acc_norm": pl.Float64, "gold_nll": pl.Float64, "gold_bytes": pl.Int64, "n_options": pl.Int64,
}  # fmt: skip
TABLES: dict[tuple[str, str], dict[str, type[pl.DataType] | pl.DataType]] = {
    ("snapshot_inventory", "files.parquet"): {
        "file": pl.String, "sha256": pl.String, "bytes": pl.Int64, "n_rows": pl.Int64, "n_documents": pl.Int64,
    },
    ("snapshot_inventory", "documents/shard-*.parquet"): INVENTORY,
    ("snapshot_inventory", "quarantine.parquet"): {
        "file": pl.String, "row": pl.Int64, "doc_id": pl.String, "reason": pl.String,
    },
    ("tokenized_corpus", "shard-*.parquet"): {**INVENTORY, "n_tokens": pl.Int64, "offset": pl.Int64},
    ("validation_items", "gradient_items.parquet"): {
        "task": pl.String, "item_hash": pl.String, "text": pl.String, "token_ids": pl.List(pl.Int32),
        "sequence_mask": pl.List(pl.Boolean), "answer_mask": pl.List(pl.Boolean),
    },
    ("validation_items", "item_sets.parquet"): {
        "task": pl.String, "item_set": pl.String, "item_hash": pl.String, "doc_index": pl.Int64,
    },
    ("reference_sample", "reference.parquet"): {
        "snapshot": pl.String, "shard": pl.String, "row": pl.Int64, "doc_id": pl.String,
        "token_ids": pl.List(pl.Int32),
    },
    ("scored_items", "scored_items.parquet"): {
        "task": pl.String, "item_set": pl.String, "item_hash": pl.String, "text": pl.String, "question": pl.String,
    },
    ("leakage", "shard-*.parquet"): {
        "doc_id": pl.String, "n_ngrams": pl.Int64, "n_items": pl.Int64, "task": pl.String, "item_set": pl.String,
        "item_hash": pl.String, "shared_words": pl.String,
    },
    ("demo/proxy_run", "training.parquet"): {
        "step": pl.Int64, "tokens": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64,
        "gradient_norm": pl.Float64,
    },
    ("demo/benchmark_table", "benchmark.parquet"): BENCHMARK,
    ("demo/benchmark_table", "items.parquet"): ITEMS,
    ("selected_checkpoints", "selected.parquet"): {
        "checkpoint": pl.String, "step": pl.Int64, "progress": pl.Float64, "alpha": pl.Float64,
        "tasks": pl.List(pl.String),
    },
    ("selected_checkpoints", "assignments.parquet"): {
        "task": pl.String, "best_step": pl.Int64, "best_value": pl.Float64, "metric": pl.String,
        "checkpoint": pl.String, "above_chance": pl.Boolean, "fallback": pl.String,
        "selection_probability": pl.Float64, "cluster": pl.String,
    },
    ("progress_ratio_table", "progress_ratios.parquet"): {
        "proxy": pl.String, "parameters": pl.Int64, "selected_by": pl.String, "task": pl.String,
        "progress_ratio": pl.Float64, "best_step": pl.Int64, "total_steps": pl.Int64, "n_checkpoints": pl.Int64,
        "metric": pl.String, "best_value": pl.Float64, "above_chance": pl.Boolean, "fallback": pl.String,
        "selection_probability": pl.Float64,
    },
    ("demo/checkpoint_influence", "shard-*.parquet"): {
        "doc_id": pl.String, "n_tokens": pl.Int64, "loss": pl.Float32, "influence_*": pl.Float32,
    },
    ("joint_influence", "shard-*.parquet"): {
        "doc_id": pl.String, "n_tokens": pl.Int64, "utility__*": pl.Float64, "joint_utility": pl.Float64,
        "joint_influence": pl.Float64,
    },
    ("grouped_shards", "groups/*/*/shard-*.parquet"): {
        "row": pl.Int64, "doc_id": pl.String, "n_tokens": pl.Int64, "utility": pl.Float64,
        "joint_utility": pl.Float64,
    },
    ("grouped_shards", "groups.parquet"): {
        "group": pl.String, "threshold": pl.Float64, "n_documents": pl.Int64, "n_tokens": pl.Int64,
        "n_candidates": pl.Int64, "candidate_tokens": pl.Int64,
    },
    ("grouped_shards", "memberships.parquet"): {
        "snapshot": pl.String, "shard": pl.String, "in__*": pl.Boolean, "shard_lowest": pl.Float64,
        "n_documents": pl.Int64, "n_tokens": pl.Int64, "utility_tokens": pl.Float64, "lowest": pl.Float64,
        "highest": pl.Float64, "excess_tokens": pl.Float64,
    },
    ("grouped_shards", "percentile_ranges.parquet"): {
        "range": pl.String, "lower": pl.Float64, "upper": pl.Float64, "n_documents": pl.Int64,
        "mean_tokens": pl.Float64, "sum_tokens": pl.Int64, "mean_language_score": pl.Float64,
        "mean_score": pl.Float64, "mean_int_score": pl.Float64,
    },
    ("grouped_shards", "overlap.parquet"): {
        "group": pl.String, "other": pl.String, "n_documents": pl.Int64, "share": pl.Float64,
    },
    ("grouped_shards", "rank_scale.parquet"): {"utility": pl.Float64, "rank": pl.Float64},
    ("grouped_shards", "exclusions.parquet"): {
        "snapshot": pl.String, "reason": pl.String, "n_documents": pl.Int64, "n_tokens": pl.Int64,
    },
    ("group_characteristics", "characteristics.parquet"): {
        "group": pl.String, "kind": pl.String, "rank": pl.Int64, "value": pl.String, "n_in_group": pl.Int64,
        "n_in_corpus": pl.Int64, "share_in_group": pl.Float64, "share_in_corpus": pl.Float64, "log_odds": pl.Float64,
        "z": pl.Float64,
    },
    ("group_characteristics", "quality.parquet"): {
        "group": pl.String, "column_name": pl.String, "n_documents": pl.Int64, "mean": pl.Float64, "sd": pl.Float64,
        "corpus_mean": pl.Float64, "corpus_sd": pl.Float64, "difference_in_sd": pl.Float64,
    },
    ("group_characteristics", "examples.parquet"): {
        "group": pl.String, "chosen_by": pl.String, "rank": pl.Int64, "snapshot": pl.String, "shard": pl.String,
        "row": pl.Int64, "doc_id": pl.String, "n_tokens": pl.Int64, "utility": pl.Float64, "text": pl.String,
    },
    ("group_characteristics", "leaked.parquet"): {
        "group": pl.String, "source": pl.String, "n_documents": pl.Int64, "n_leaked": pl.Int64,
        "leaked_tokens": pl.Int64,
    },
    ("group_characteristics", "deciles.parquet"): {
        "ranking": pl.String, "decile": pl.Int64, "lower": pl.Float64, "upper": pl.Float64, "n_documents": pl.Int64,
        "mean_tokens": pl.Float64, "mean_language_score": pl.Float64, "mean_score": pl.Float64,
        "mean_int_score": pl.Float64,
    },
    ("group_characteristics", "decile_shares.parquet"): {
        "ranking": pl.String, "kind": pl.String, "decile": pl.Int64, "value": pl.String, "n_documents": pl.Int64,
        "share_of_decile": pl.Float64, "share_of_value": pl.Float64,
    },
    ("group_characteristics", "retrieval.parquet"): {
        "ranking": pl.String, "n_documents": pl.Int64, "n_planted": pl.Int64, "n_top": pl.Int64, "auc": pl.Float64,
        "n_planted_top": pl.Float64, "precision": pl.Float64, "recall": pl.Float64, "precision_by_chance": pl.Float64,
    },
    ("weight_manifest", "exposure.parquet"): {
        "content_hash": pl.String, "n_tokens": pl.Int64, "n_groups": pl.Int64, "n_copies": pl.Int64,
        "in_several_snapshots": pl.Boolean, "expected_exposures": pl.Float64,
    },
    ("weight_manifest", "most_read.parquet"): {
        "expected_exposures": pl.Float64, "n_groups": pl.Int64, "n_copies": pl.Int64, "snapshot": pl.String,
        "shard": pl.String, "row": pl.Int64, "doc_id": pl.String, "content_hash": pl.String,
    },
    ("selected_checkpoints", "winners.parquet"): {
        "task": pl.String, "step": pl.Int64, "checkpoint": pl.String, "value": pl.Float64, "probability": pl.Float64,
        "chosen": pl.Boolean,
    },
    ("selected_checkpoints", "redrawn.parquet"): {
        "selection": pl.Int64, "share": pl.Float64, "chosen": pl.Boolean, "checkpoint": pl.String, "step": pl.Int64,
        "alpha": pl.Float64, "tasks": pl.List(pl.String),
    },
    ("weight_uncertainty", "intervals.parquet"): {
        "resampled": pl.String, "group": pl.String, "weight": pl.Float64, "low": pl.Float64, "high": pl.Float64,
        "n_undefined": pl.Int64, "covered_share": pl.Float64, "reliability": pl.Float64,
    },
    ("target_runs", "curves.parquet"): {
        "seed": pl.Int64, "step": pl.Int64, "tokens": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64,
        "gradient_norm": pl.Float64,
    },
    ("target_runs", "benchmark.parquet"): {**BENCHMARK, "seed": pl.Int64},
    ("target_runs", "items.parquet"): {**ITEMS, "seed": pl.Int64},
    ("target_runs", "trajectory.parquet"): {**BENCHMARK, "seed": pl.Int64},
    ("comparison_table", "comparison.parquet"): {
        "mixture": pl.String, "task": pl.String, "metric": pl.String, "mean": pl.Float64, "sd": pl.Float64,
        "n_seeds": pl.Int64, "difference": pl.Float64, "difference_stderr": pl.Float64, "p_value": pl.Float64,
        "p_holm": pl.Float64, "interval_low": pl.Float64, "interval_high": pl.Float64,
    },
}  # fmt: skip


@pytest.mark.parametrize(("asset", "pattern"), TABLES)
def test_a_table_has_the_columns_and_types_that_are_documented(finished: World, asset: str, pattern: str):
    for key in partitions(finished)[asset] or [None]:
        files = sorted(finished.path(asset, key).glob(pattern))
        assert files, f"{asset}[{key}] has no {pattern}"
        for file in files:
            found: dict[str, pl.DataType] = {}
            for name, type_ in pl.read_parquet_schema(file).items():
                found[re.sub(r"^(influence_|utility__|in__).*", r"\1*", name)] = type_
            assert found == TABLES[asset, pattern], file


def test_every_column_is_described_in_the_documentation():
    text = (PROJECT_ROOT / "docs" / "tables.md").read_text()
    words = set(re.findall(r"\w+", text))
    columns = {name for table in TABLES.values() for name in table if not name.endswith("*")}
    assert columns - words == set()


def test_score_columns_name_curvature_query_text_and_task(finished: World):
    with finished.active():
        tasks = Automixer().settings().tasks.names
    for key in partitions(finished)["demo/checkpoint_influence"]:
        for file in finished.path("demo/checkpoint_influence", key).glob("*.parquet"):
            names = [name for name in pq.read_schema(file).names if name.startswith("influence_")]
            assert sorted(names) == sorted(f"influence_datainf_sequence_{task}" for task in tasks)


def test_bad_rows_are_set_aside_with_a_reason_and_the_rest_is_kept(finished: World):
    first = FIRST_SNAPSHOTS[0]
    quarantine = finished.table("snapshot_inventory", first, "quarantine.parquet")
    assert sorted(quarantine["reason"]) == REJECTED
    documents = finished.table("snapshot_inventory", first, "documents/*.parquet")
    assert documents.height == N_DOCUMENTS[first]
    assert documents["doc_id"].to_list().count(EXTRA_ID) == 1


def test_scores_lie_row_by_row_beside_the_tokenised_shards(finished: World):
    for asset in ("demo/checkpoint_influence", "joint_influence"):
        for key in partitions(finished)[asset]:
            corpus = open_tokenized(finished.path("tokenized_corpus", key.split("|")[1]))
            assert len(corpus.shards) > 1
            scored = finished.path(asset, key)
            assert sorted(path.stem for path in scored.glob("*.parquet")) == list(corpus.shard_names)
            for shard in corpus.shards:
                scores = pl.read_parquet(scored / f"{shard.name}.parquet")
                assert scores.select("doc_id", "n_tokens").equals(shard.documents.select("doc_id", "n_tokens"))


def test_a_selection_points_at_the_rows_that_it_names(finished: World):
    for selection in list_selections(finished.path("grouped_shards", "demo")):
        kept = pl.read_parquet(selection.path)
        corpus = open_tokenized(finished.path("tokenized_corpus", selection.snapshot))
        documents = next(shard.documents for shard in corpus.shards if shard.name == selection.shard)
        assert kept["row"].is_sorted()
        assert kept.select("doc_id", "n_tokens").equals(documents[kept["row"]].select("doc_id", "n_tokens"))


def test_each_group_keeps_exactly_the_half_of_the_union_rounded_up(finished: World):
    assert N_UNION % 2 == 1
    for group in manifest_of(finished).groups:
        assert group.n_documents == math.ceil(N_UNION / 2)
    assert [group.n_documents for group in manifest_of(finished, "uniform").groups] == [N_UNION]


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_manifest_follows_its_schema_and_its_shares_sum_to_one(finished: World, mixture: str):
    manifest = manifest_of(finished, mixture)
    validate_manifest_json(manifest.model_dump(mode="json"))
    assert manifest.digest == manifest_digest(manifest)
    assert math.fsum(group.weight for group in manifest.groups) == pytest.approx(1, abs=1e-12)
    assert math.fsum(group.weight_appendix_b for group in manifest.groups) == pytest.approx(1, abs=1e-12)
    assert math.fsum(group.alpha for group in manifest.groups) == pytest.approx(1, abs=1e-12)
    assert manifest.snapshots == list(FIRST_SNAPSHOTS)
    for group in manifest.groups:
        assert sum(shard.n_documents for shard in group.shards) == group.n_documents
        assert sum(shard.n_tokens for shard in group.shards) == group.n_tokens


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_token_budget_is_spent_to_the_last_token(finished: World, mixture: str):
    manifest = manifest_of(finished, mixture)
    assert (manifest.token_budget, manifest.shortfall) == (TOKEN_BUDGET, 0)
    assert sum(round(group.exposure * group.n_tokens) for group in manifest.groups) == TOKEN_BUDGET
    for group in manifest.groups:
        assert group.exposure * group.n_tokens == pytest.approx(group.weight * TOKEN_BUDGET, abs=1)
    curves = finished.table("target_runs", mixture, "curves.parquet")
    ends = curves.group_by("seed").agg(pl.col("tokens").max(), pl.col("step").max())
    assert sorted(ends.rows()) == [(seed, TOKEN_BUDGET, TARGET_STEPS) for seed in (1, 2, 3)]


@dataclass(frozen=True)
class Document:
    """One scored document: its tokens and, per checkpoint, the paper's influence (mean over the group's tasks)."""

    snapshot: str
    doc_id: str
    content_hash: str
    n_tokens: int
    influence: dict[str, float]


@dataclass(frozen=True)
class Recomputed:
    """The mixture from the scores alone, in plain Python."""

    alphas: dict[str, float]
    documents: list[Document]

    def joint(self, document: Document) -> float:
        return math.fsum(-alpha * document.influence[group] for group, alpha in self.alphas.items())

    def members(self, group: str, sign: int = 1) -> list[Document]:
        """The better half; `sign=-1` is the paper's rule read literally, which keeps the harmful half."""
        ranked = sorted(self.documents, key=lambda each: (sign * each.influence[group], each.doc_id, each.snapshot))
        return ranked[: math.ceil(len(ranked) / 2)]

    def density(self, group: str) -> float:
        members = self.members(group)
        tokens = sum(each.n_tokens for each in members)
        return math.fsum(self.joint(each) * each.n_tokens for each in members) / tokens

    def weights(self) -> dict[str, float]:
        densities = {group: self.density(group) for group in self.alphas}
        return {group: density / math.fsum(densities.values()) for group, density in densities.items()}


@pytest.fixture(scope="module")
def recomputed(finished: World) -> Recomputed:
    """From checkpoint_influence, selected_checkpoints and tokenized_corpus; no statement or function of the product."""
    selected = finished.table("selected_checkpoints", "demo", "selected.parquet").to_dicts()
    total_steps = sum(row["step"] for row in selected)
    documents = []
    for snapshot in FIRST_SNAPSHOTS:
        corpus = finished.table("tokenized_corpus", snapshot, "shard-*.parquet").to_dicts()
        scores = {
            row["checkpoint"]: finished.table(
                "demo/checkpoint_influence", f"{row['checkpoint']}|{snapshot}", "shard-*.parquet"
            ).to_dicts()
            for row in selected
        }
        for position, document in enumerate(corpus):
            influence = {}
            for row in selected:
                own = [f"_{task}" for task in row["tasks"]] or [""]
                values = [
                    value
                    for name, value in scores[row["checkpoint"]][position].items()
                    if name.startswith("influence_") and any(name.endswith(task) for task in own)
                ]
                influence[row["checkpoint"]] = math.fsum(values) / len(values)
            documents.append(
                Document(snapshot, document["doc_id"], document["content_hash"], document["n_tokens"], influence)
            )
    return Recomputed({row["checkpoint"]: row["step"] / total_steps for row in selected}, documents)


def membership(world: World, group: str) -> set[tuple[str, str]]:
    return {
        (selection.snapshot, doc_id)
        for selection in list_selections(world.path("grouped_shards", "demo"))
        if selection.group == group
        for doc_id in pl.read_parquet(selection.path)["doc_id"]
    }


def test_joint_utility_is_the_alpha_weighted_sum_of_minus_influence(finished: World, recomputed: Recomputed):
    for snapshot in FIRST_SNAPSHOTS:
        joint = finished.table("joint_influence", f"demo|{snapshot}", "shard-*.parquet")
        expected = [each for each in recomputed.documents if each.snapshot == snapshot]
        assert joint["doc_id"].to_list() == [each.doc_id for each in expected]
        assert joint["joint_utility"].to_list() == pytest.approx(list(map(recomputed.joint, expected)), rel=1e-12)
        assert joint["joint_influence"].to_list() == [-value for value in joint["joint_utility"]]
        for group in recomputed.alphas:
            utilities = [-each.influence[group] for each in expected]
            assert joint[f"utility__{group}"].to_list() == pytest.approx(utilities, rel=1e-12)


def test_a_group_holds_the_documents_of_lowest_influence_and_not_of_highest(finished: World, recomputed: Recomputed):
    """Weights are blind to a flipped sign; membership is not."""
    for group in recomputed.alphas:
        members = membership(finished, group)
        assert members == {(each.snapshot, each.doc_id) for each in recomputed.members(group)}
        harmful = {(each.snapshot, each.doc_id) for each in recomputed.members(group, sign=-1)}
        assert len(members & harmful) == 1, "of an odd number of documents the halves share the middle one"


def test_manifest_numbers_equal_the_recomputation(finished: World, recomputed: Recomputed):
    weights = recomputed.weights()
    groups = manifest_of(finished).groups
    assert [group.name for group in groups] == list(recomputed.alphas)
    for group in groups:
        members = recomputed.members(group.name)
        assert group.alpha == pytest.approx(recomputed.alphas[group.name], rel=1e-12)
        assert group.threshold == pytest.approx(-max(each.influence[group.name] for each in members), rel=1e-12)
        assert (group.n_documents, group.n_tokens) == (len(members), sum(each.n_tokens for each in members))
        assert group.density == pytest.approx(recomputed.density(group.name), rel=1e-12)
        assert group.weight == pytest.approx(weights[group.name], rel=1e-12)


def test_the_exposure_ledger_adds_up_copies_and_groups(finished: World, recomputed: Recomputed):
    manifest = manifest_of(finished)
    tokenized = {name: open_tokenized(finished.path("tokenized_corpus", name)) for name in manifest.snapshots}
    expected: dict[str, float] = defaultdict(float)
    for group in manifest.groups:
        read = {
            (part.shard.snapshot, doc_id)
            for part in selected_shards(group, finished.lake.root, tokenized)
            for doc_id in part.documents["doc_id"]
        }
        assert group.allocated_tokens < group.n_tokens, "the tiny world's budget is below its groups: they are sampled"
        assert len(read) == group.read_documents < group.n_documents
        for each in recomputed.members(group.name):
            expected[each.content_hash] += group.passes * ((each.snapshot, each.doc_id) in read)
    ledger = finished.table("weight_manifest", "demo", "exposure.parquet")
    found = dict(ledger.select("content_hash", "expected_exposures").iter_rows())
    assert found == pytest.approx(dict(expected), rel=1e-12)


def test_utility_finds_the_documents_that_teach(finished: World, recomputed: Recomputed):
    """The sign of the scores themselves, judged from outside by what was planted."""
    truth = read_truth(finished.state / "microworld")
    known = [each for each in recomputed.documents if each.doc_id != EXTRA_ID]
    utilities = pl.DataFrame(
        [{"snapshot": each.snapshot, "doc_id": each.doc_id, "utility": recomputed.joint(each)} for each in known]
    )
    auc = planted_auc(truth, utilities).filter(task="overall")["auc"].item()
    assert auc > 0.65
    everything = teaching_share(truth, [each.doc_id for each in known]).documents
    for group in recomputed.alphas:
        kept = [doc_id for _, doc_id in membership(finished, group) if doc_id != EXTRA_ID]
        assert teaching_share(truth, kept).documents > everything
