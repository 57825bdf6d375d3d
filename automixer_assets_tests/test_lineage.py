"""Pins lead from a mixture to its sources, and nothing is built on what is missing, mixed, deleted or bad."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from automixer_assets.assets import all_assets
from automixer_assets.definitions import build_defs
from automixer_assets.errors import AutomixerError
from automixer_assets.lineage import Pin, upstream
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import FIRST_SNAPSHOTS, MIXTURES, NOT_ASKED_FOR, World, contents, create_world


def ancestors(world: World, start: Pin) -> set[Pin]:
    """Everything that a materialisation was made from, through pins alone."""
    found: set[Pin] = set()
    queue = [start]
    while queue:
        new = set(upstream(world.instance, queue.pop())) - found
        found |= new
        queue.extend(new)
    return found


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_pins_of_a_mixture_lead_to_the_inventory_of_every_snapshot(finished: World, mixture: str):
    made_from = ancestors(finished, finished.latest("weight_manifest", mixture).pin)
    inventories = {(pin.asset, pin.partition) for pin in made_from if pin.asset == "snapshot_inventory"}
    assert inventories == {("snapshot_inventory", snapshot) for snapshot in FIRST_SNAPSHOTS}
    for pin in made_from:
        assert finished.lake.open(pin.uri).content == pin.sha256 == pin.data_version, pin.name


def test_a_manifest_lists_the_pins_of_its_own_materialisation(finished: World):
    manifest = load_manifest(finished.path("weight_manifest", "demo") / "manifest.json")
    recorded = upstream(finished.instance, finished.latest("weight_manifest", "demo").pin)
    assert [vars(pin) for pin in recorded] == [pin.model_dump() for pin in manifest.pins]


def test_what_an_asset_reads_is_what_the_graph_says(finished: World):
    with finished.active():
        assets = all_assets(Automixer().settings())
        graph = build_defs(Automixer().settings()).resolve_asset_graph()
    for item in assets:
        parents = {key.to_user_string() for key in graph.get(item.definition.key).parent_keys}
        keys: list[str | None] = [None]
        if item.partitions_def is not None:
            keys = [*finished.instance.get_materialized_partitions(item.definition.key)]
        for key in keys if item.asset not in NOT_ASKED_FOR else []:
            read = {pin.asset for pin in upstream(finished.instance, finished.latest(item.asset, key).pin)}
            assert read <= parents, f"{item.asset} reads {sorted(read - parents)} unseen by the graph"


def test_versions_of_a_common_input_are_not_mixed(world: World):
    """One checkpoint is scored again with another reference sample; the blend with the other one is refused."""
    first, second, *_ = world.checkpoints()
    other = {"reference_sample.documents": 48}
    world.run("reference_sample", overrides=other)
    world.run("demo/influence_query", first, overrides=other)
    world.run("demo/checkpoint_influence", first, overrides=other)

    older, newer = (f"demo/checkpoint_influence[{checkpoint}|MW-2026-01]" for checkpoint in (second, first))
    with pytest.raises(AutomixerError) as refused:
        world.run("joint_influence", overrides=other)
    sentence, remedy = str(refused.value).split("; ")
    assert sentence == (
        "joint_influence[demo|MW-2026-01] would mix two versions of reference_sample: "
        f"{older} was made from an older one than {newer}"
    )
    selection = remedy.partition("`automixer materialize ")[2].partition("`")[0]
    world.run(selection, overrides=other)
    assert "joint_influence[demo|MW-2026-01]" in world.run("joint_influence", overrides=other)


def test_a_deleted_file_of_an_input_is_named_and_rebuilt_as_it_was(finished: World, world: World):
    key = f"{world.checkpoints()[0]}|MW-2026-02"
    scores = world.path("demo/checkpoint_influence", key)
    lost = sorted(scores.glob("shard-*.parquet"))[1]
    lost.unlink()
    with pytest.raises(AutomixerError, match=rf"^{lost} was deleted: restore it, or delete {scores} and rebuild$"):
        world.run("joint_influence")

    shutil.rmtree(scores)
    assert world.run() == [f"demo/checkpoint_influence[{key}]"], "what was made of it is still current"
    assert contents(scores) == contents(finished.path("demo/checkpoint_influence", key))


def test_a_missing_input_is_named_with_the_command_that_makes_it(tmp_path: Path):
    world = create_world(tmp_path / "world")
    missing = "snapshot_inventory[MW-2026-01], which is not materialised: run "
    command = "`automixer materialize snapshot_inventory --partition 'MW-2026-01'`"
    with pytest.raises(AutomixerError, match=f"^tokenizer needs {re.escape(missing + command)}$"):
        world.run("tokenizer")
    world.run("snapshot_inventory", "MW-2026-01")
    with pytest.raises(AutomixerError, match=r"^tokenizer needs snapshot_inventory\[MW-2026-02\]"):
        world.run("tokenizer")
    world.close()


def test_nothing_is_built_on_an_artefact_whose_blocking_check_failed(world: World):
    """A learning rate of 30 makes the loss rise, so the run's own check refuses it."""
    training = "proxies.demo.training"
    diverging = {f"{training}.learning_rate": 30.0, f"{training}.steps": 12, f"{training}.warmup_steps": 0}
    with pytest.raises(AutomixerError, match="loss_is_finite_and_fell"):
        world.run("demo/proxy_run", overrides=diverging)
    failed = world.latest("demo/proxy_run")
    assert failed.failed_checks == ("loss_is_finite_and_fell",)

    refused = r"^demo/benchmark_table needs demo/proxy_run, whose check 'loss_is_finite_and_fell' failed: "
    with pytest.raises(AutomixerError, match=refused):
        world.run("demo/benchmark_table", overrides=diverging)
    assert world.run("demo/proxy_run") == ["demo/proxy_run"], "with sane settings the old run is found again"
    assert world.latest("demo/proxy_run").failed_checks == ()
    assert world.run("demo/benchmark_table") == []
