"""What exists: every asset with its place in the graph, loaded lightly, and settings that a run may override."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping

import dagster as dg
import pytest
import yaml

from automixer_assets.assets import all_assets
from automixer_assets.definitions import build_defs
from automixer_assets.lake_asset import LakeAsset, by_name
from automixer_assets.resources import PROJECT_ROOT, Automixer
from automixer_assets.settings_file import load_settings, parse_settings
from automixer_assets_tests.world import DEMO_SETTINGS, N_DOCUMENTS, World

HEAVY = ["torch", "transformers", "lm_eval", "datasets", "tokenizers", "matplotlib", "ray"]

# asset: (group, dimensions of its partitions, what it reads)
ASSETS: dict[str, tuple[str, str | None, set[str]]] = {
    "snapshot_inventory": ("corpus", "snapshot", set()),
    "tokenizer": ("corpus", None, {"snapshot_inventory"}),
    "tokenized_corpus": ("corpus", "snapshot", {"snapshot_inventory", "tokenizer"}),
    "validation_items": ("corpus", None, {"tokenizer"}),
    "reference_sample": ("corpus", None, {"tokenized_corpus"}),
    "scored_items": ("corpus", None, {"validation_items"}),
    "leakage": ("corpus", "snapshot", {"snapshot_inventory", "scored_items"}),
    "removed_documents": ("corpus", "snapshot", {"snapshot_inventory"}),
    "lexical_query": ("corpus", None, {"tokenizer", "validation_items", "reference_sample"}),
    "lexical_scores": ("corpus", "snapshot", {"snapshot_inventory", "lexical_query"}),
    "demo/proxy_run": ("demo_simulation", None, {"tokenized_corpus", "tokenizer"}),
    "demo/benchmark_table": ("demo_simulation", None, {"demo/proxy_run", "validation_items"}),
    "demo/proxy_checkpoints": ("demo_simulation", "checkpoint_demo", {"demo/proxy_run"}),
    "demo/influence_query": (
        "demo_influence",
        "checkpoint_demo",
        {"demo/proxy_checkpoints", "validation_items", "reference_sample"},
    ),
    "demo/checkpoint_influence": (
        "demo_influence",
        "checkpoint_demo x snapshot",
        {"demo/influence_query", "demo/proxy_checkpoints", "tokenized_corpus"},
    ),
    "selected_checkpoints": ("mixture", "recipe", {"demo/benchmark_table"}),
    "joint_influence": (
        "mixture",
        "recipe x snapshot",
        {
            "selected_checkpoints",
            "tokenized_corpus",
            "demo/checkpoint_influence",
            "demo/influence_query",
            "lexical_query",
            "lexical_scores",
        },
    ),
    "grouped_shards": (
        "mixture",
        "mixture",
        {
            "joint_influence",
            "tokenized_corpus",
            "scored_items",
            "leakage",
            "removed_documents",
            "lexical_query",
            "lexical_scores",
        },
    ),
    "weight_manifest": (
        "mixture",
        "mixture",
        {
            "grouped_shards",
            "item_contributions",
            "selected_checkpoints",
            "tokenized_corpus",
            "removed_documents",
        },
    ),
    "item_contributions": (
        "mixture",
        "mixture",
        {
            "grouped_shards",
            "selected_checkpoints",
            "joint_influence",
            "tokenized_corpus",
            "validation_items",
            "reference_sample",
            "demo/proxy_checkpoints",
            "demo/influence_query",
        },
    ),
    "weight_uncertainty": (
        "mixture",
        "mixture",
        {"weight_manifest", "grouped_shards", "item_contributions", "selected_checkpoints", "joint_influence"},
    ),
    "group_characteristics": (
        "mixture",
        "mixture",
        {"grouped_shards", "joint_influence", "tokenizer", "tokenized_corpus", "scored_items", "leakage"},
    ),
    "trainer_exports": ("mixture", "mixture", {"weight_manifest", "tokenized_corpus"}),
    "target_runs": (
        "evaluation",
        "mixture",
        {"weight_manifest", "tokenizer", "tokenized_corpus", "validation_items"},
    ),
    "comparison_table": ("evaluation", None, {"target_runs"}),
    "progress_ratio_table": ("evaluation", None, {"demo/proxy_run", "demo/benchmark_table"}),
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_defs(load_settings(DEMO_SETTINGS))


def dimensions(definition: dg.PartitionsDefinition | None) -> str | None:
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return " x ".join(str(dimensions(each.partitions_def)) for each in definition.partitions_defs)
    assert definition is None or isinstance(definition, dg.DynamicPartitionsDefinition)
    return None if definition is None else definition.name


def test_the_graph_is_the_one_that_is_designed(definitions: dg.Definitions):
    graph = definitions.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            dimensions(graph.get(key).partitions_def),
            {parent.to_user_string() for parent in graph.get(key).parent_keys},
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == ASSETS


def test_every_asset_opens_its_description_with_the_question_it_answers(definitions: dg.Definitions):
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        description = graph.get(key).description
        assert description, f"{key.to_user_string()} has no description"
        first_line = description.splitlines()[0]
        assert first_line.endswith("?"), f"{key.to_user_string()} opens with {first_line!r}"


def test_a_second_proxy_has_a_chain_of_its_own():
    settings = load_settings(DEMO_SETTINGS)
    two = settings.model_copy(update={"proxies": {**settings.proxies, "other": settings.proxies["demo"]}})
    keys = {item.asset for item in all_assets(two)}
    assert keys - ASSETS.keys() == {key.replace("demo/", "other/") for key in ASSETS if key.startswith("demo/")}


def test_an_imported_proxy_has_the_same_chain_without_training():
    document = yaml.safe_load(DEMO_SETTINGS.read_text())
    document["proxies"]["demo"] = {"checkpoints_from": {"directory": "x", "pattern": "step{step}"}}
    definitions = build_defs(parse_settings(document))
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == ASSETS.keys()
    parents = {
        name: {parent.to_user_string() for parent in graph.get(dg.AssetKey(["demo", name])).parent_keys}
        for name in ("proxy_run", "benchmark_table", "proxy_checkpoints")
    }
    assert parents == {
        "proxy_run": set(),
        "benchmark_table": {"demo/proxy_run", "validation_items", "tokenizer"},
        "proxy_checkpoints": {"demo/proxy_run", "tokenizer"},
    }


def test_task_gradients_exist_only_for_recipes_that_cluster_by_them():
    def assets(**options: object) -> Mapping[str, LakeAsset]:
        overrides = {f"recipes.demo.{name}": value for name, value in options.items()}
        return by_name(all_assets(load_settings(DEMO_SETTINGS, overrides)))

    assert assets(task_clustering="gradient").keys() == ASSETS.keys(), "no limit, nothing to cluster"
    asked = assets(task_clustering="gradient", max_checkpoints=3)
    assert asked.keys() - ASSETS.keys() == {"demo/task_gradients"}
    read = {key.to_user_string() for key in asked["selected_checkpoints"].definition.dependency_keys}
    assert read == {"demo/benchmark_table", "demo/task_gradients"}


def test_loading_the_definitions_imports_nothing_heavy():
    code = (
        "import sys, time; started = time.perf_counter(); import automixer_assets.definitions; "
        "print(f'{time.perf_counter() - started:.2f} s'); "
        f"print(','.join(name for name in {HEAVY} if name in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT, timeout=120
    )
    seconds, imported = result.stdout.splitlines()
    assert imported == "", f"importing the definitions took {seconds} and imported {imported}"


def test_a_launchpad_override_changes_the_result_and_nothing_else(world: World):
    before = world.artifact("grouped_shards", "demo")
    resources = {"automixer": {"config": {"overrides": {"mixtures.demo.top_share": 0.25}}}}
    with world.active():
        job = build_defs(Automixer().settings()).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            run_config={"resources": resources, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            asset_selection=[dg.AssetKey("grouped_shards")],
            partition_key="demo",
            instance=world.instance,
        )
    assert result.success
    after = world.artifact("grouped_shards", "demo")
    assert after.digest != before.digest
    kept = set(world.table("grouped_shards", "demo", "groups.parquet")["n_documents"])
    assert kept == {math.ceil(sum(N_DOCUMENTS.values()) / 4)}
    assert (
        world.latest("joint_influence", "demo|MW-2026-01").pin.storage_id
        < world.latest("grouped_shards", "uniform").pin.storage_id
    ), "upstream was not touched"
