"""Only what changed is made again, and what was made before keeps its bytes."""

from __future__ import annotations

import os

import polars as pl
import pytest

from automixer_assets import code_versions
from automixer_assets.mixture.sql import load_sql
from automixer_assets_tests.world import FIRST_SNAPSHOTS, NEW_SNAPSHOT, World, fingerprints

MADE_OF_GROUPS = (
    "grouped_shards",
    "group_characteristics",
    "weight_manifest",
    "weight_uncertainty",
    "target_runs",
)


def test_running_again_runs_nothing_and_leaves_the_lake_alone(world: World):
    before = fingerprints(world.lake.root)
    assert world.run() == []
    assert fingerprints(world.lake.root) == before


def test_a_new_snapshot_runs_its_own_partitions_and_what_joins_snapshots(world: World):
    influence, joint = world.lake.root / "checkpoint_influence", world.lake.root / "joint_influence"
    old = {folder: fingerprints(folder) for folder in (influence, joint)}
    old_influence = {
        key: world.latest("demo/checkpoint_influence", key).pin
        for checkpoint in world.checkpoints()
        for key in (f"{checkpoint}|{snapshot}" for snapshot in FIRST_SNAPSHOTS)
    }
    world.add_snapshot()

    assert sorted(world.run()) == sorted(
        [
            f"snapshot_inventory[{NEW_SNAPSHOT}]",
            f"tokenized_corpus[{NEW_SNAPSHOT}]",
            f"leakage[{NEW_SNAPSHOT}]",
            *(f"demo/checkpoint_influence[{checkpoint}|{NEW_SNAPSHOT}]" for checkpoint in world.checkpoints()),
            f"joint_influence[demo|{NEW_SNAPSHOT}]",
            f"joint_influence[uniform|{NEW_SNAPSHOT}]",
            *_from_groups_on("demo"),
            *_from_groups_on("uniform"),
            "comparison_table",
        ]
    )
    for folder, files in old.items():
        assert files.items() <= fingerprints(folder).items(), f"files of {folder.name} changed"
    for key, pin in old_influence.items():
        assert world.latest("demo/checkpoint_influence", key).pin == pin
    _documents_that_repeat_a_gradient_item_are_kept(world)


def _documents_that_repeat_a_gradient_item_are_kept(world: World) -> None:
    """The sign again, from outside: what is nearest to a query must be in that query's group."""
    items = world.table("validation_items", None, "gradient_items.parquet").with_row_index("item")
    for group in world.table("selected_checkpoints", "demo", "selected.parquet").iter_rows(named=True):
        own = items.filter(pl.col("task").is_in(group["tasks"])) if group["tasks"] else items
        ids = [f"leaked-{item:03d}" for item in own["item"]]
        kept = pl.read_parquet(
            world.path("grouped_shards", "demo") / "groups" / group["checkpoint"] / "*" / "*.parquet"
        )
        share = len(set(ids) & set(kept["doc_id"])) / len(ids)
        assert share > 0.8, f"{group['checkpoint']} keeps {share:.0%} of the documents that repeat its gradient items"


def test_another_top_share_remakes_that_mixture_alone(world: World):
    before = fingerprints(world.lake.root)
    ran = world.run(overrides={"mixtures.demo.top_share": 0.25})
    assert ran == [*_from_groups_on("demo"), "comparison_table"]

    after = fingerprints(world.lake.root)
    assert before.items() <= after.items()
    assert world.run() == ran, "the settings without the override are not current any more"
    assert fingerprints(world.lake.root) == after, "going back finds the old artefacts in the lake"


def test_another_alpha_remakes_the_recipe_from_its_checkpoints_on(world: World):
    influence = fingerprints(world.lake.root / "checkpoint_influence")
    assert world.run(overrides={"recipes.demo.alpha": "uniform"}) == [
        "selected_checkpoints[demo]",
        *(f"joint_influence[demo|{snapshot}]" for snapshot in FIRST_SNAPSHOTS),
        *_from_groups_on("demo"),
        "comparison_table",
    ]
    assert fingerprints(world.lake.root / "checkpoint_influence") == influence


def test_a_touched_source_file_with_the_same_bytes_is_read_again_and_nothing_more(world: World):
    before = world.latest("snapshot_inventory", FIRST_SNAPSHOTS[0]).pin
    source = min((world.sources / FIRST_SNAPSHOTS[0]).glob("*.parquet"))
    os.utime(source)

    assert world.run() == [f"snapshot_inventory[{FIRST_SNAPSHOTS[0]}]"]
    after = world.latest("snapshot_inventory", FIRST_SNAPSHOTS[0]).pin
    assert (after.data_version, after.storage_id > before.storage_id) == (before.data_version, True)


def test_a_changed_source_file_remakes_what_is_made_of_it(world: World):
    """The tokenizer and the proxy read that snapshot too, so nothing of the old world may survive in the mixture."""
    source = world.sources / FIRST_SNAPSHOTS[1] / "zz-more.parquet"
    other = pl.read_parquet(min((world.sources / FIRST_SNAPSHOTS[1]).glob("*.parquet")))
    other.head(1).with_columns(pl.lit("another-id").alias("id")).write_parquet(source)

    ran = world.run("snapshot_inventory") + world.run("tokenizer") + world.run("tokenized_corpus")
    assert ran == [
        f"snapshot_inventory[{FIRST_SNAPSHOTS[1]}]",
        "tokenizer",
        *(f"tokenized_corpus[{snapshot}]" for snapshot in FIRST_SNAPSHOTS),
    ]


def test_a_comment_in_sql_changes_no_code_version_and_a_word_does(monkeypatch: pytest.MonkeyPatch):
    name = "group_density"
    version, text = code_versions.sql_version(name), load_sql(name)

    def rewritten(new: str) -> str:
        monkeypatch.setattr(code_versions, "load_sql", lambda _: new)
        return code_versions.sql_version(name)

    assert rewritten("".join(f"{line}  \n    -- a remark\n\n" for line in text.splitlines())) == version
    assert rewritten(text.replace("fsum", "sum")) != version


def _from_groups_on(mixture: str) -> list[str]:
    return [f"{asset}[{mixture}]" for asset in MADE_OF_GROUPS]
