"""The lineage of a mixture names every input down to the source files, and never changes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import dagster as dg
import fsspec
import pytest

from automixer_assets.events import Event, read_event
from automixer_assets.lake import Artifact, Lake, file_sha256
from automixer_assets.lineage import Pin, upstream
from automixer_assets.lineage_check import check_lineage
from automixer_assets.lineage_graph import Lineage, Node, Source, lineage_json, mixture_lineage
from automixer_assets.openlineage import run_events
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World


def lineage_of(world: World, name: str) -> Lineage:
    return mixture_lineage(world.instance, world.lake, name)


def printed(lineage: Lineage) -> bytes:
    """Everything that the command line can print of a lineage for other programs."""
    return json.dumps([lineage_json(lineage), list(run_events(lineage))]).encode()


def faults_of(world: World, lineage: Lineage, *, digests: bool = False) -> list[str]:
    with world.active():
        return [fault.sentence for fault in check_lineage(lineage, world.lake, Automixer().resolve, digests=digests)]


def ancestors(world: World, pin: Pin) -> set[int]:
    return {pin.storage_id}.union(*(ancestors(world, each) for each in upstream(world.instance, pin)))


def test_every_materialisation_below_a_mixture_is_there_once_and_after_its_readers(finished: World):
    lineage = lineage_of(finished, "demo")
    assert set(lineage.nodes) == ancestors(finished, finished.latest("weight_manifest", "demo").pin)
    seen: set[int] = set()
    for storage_id, node in lineage.nodes.items():
        assert not seen & set(node.inputs), f"{node.name} stands after what it read"
        seen.add(storage_id)
    assert lineage.root.name == "weight_manifest[demo]"


def test_sources_are_the_files_of_the_snapshots_with_their_digests(finished: World):
    found = {source["path"]: source for source in lineage_json(lineage_of(finished, "demo"))["sources"]}
    for snapshot in FIRST_SNAPSHOTS:
        for path in (finished.sources / snapshot).glob("*.parquet"):
            source = found.pop(path.relative_to(finished.state).as_posix())
            assert (source["sha256"], source["bytes"]) == (file_sha256(path), path.stat().st_size)
    assert {(source["kind"], source["path"]) for source in found.values()} == {("folder", "microworld/tasks")}


def test_a_node_says_code_settings_files_and_training_step(finished: World):
    nodes = {
        (node["asset"], node["partition"]): node
        for node in lineage_json(lineage_of(finished, "demo"))["materialisations"]
    }
    for node in nodes.values():
        assert node["code_version"]
        assert node["files"]
        assert all(file["bytes"] > 0 or "quarantine" in file["name"] for file in node["files"])
    key = finished.checkpoints()[0]
    assert nodes["demo/proxy_checkpoints", key]["training_step"] == {"proxy": "demo", "step": int(key[-6:])}
    assert nodes["demo/proxy_run", None]["settings"]["proxies.demo"]["training"]["steps"] == 60
    assert nodes["weight_manifest", "demo"]["settings"]["mixtures.demo"]["top_share"] == 0.5
    assert nodes["reference_sample", None]["settings"]["reference_sample"]["documents"] == 64


@pytest.mark.slow
def test_ten_later_changes_leave_the_lineage_of_a_version_as_it_was(world: World):
    digest = world.latest("weight_manifest", "demo").pin.data_version
    before = printed(lineage_of(world, "demo"))
    os.utime(min((world.sources / FIRST_SNAPSHOTS[0]).glob("*.parquet")))
    world.add_snapshot()
    groups, recipe = "key:grouped_shards or key:weight_manifest", "+weight_manifest"
    changes = [
        (recipe, {}),
        (groups, {"mixtures.demo.snapshots": list(FIRST_SNAPSHOTS)}),
        (groups, {"mixtures.demo.top_share": 0.25}),
        (groups, {"mixtures.demo.weight_rule": "appendix_b"}),
        (groups, {"mixtures.demo.token_budget": 4000}),
        (recipe, {"recipes.demo.alpha": "uniform"}),
        (recipe, {"recipes.demo.normalisation": "z"}),
        (recipe, {"reference_sample.documents": 48}),
    ]
    for selection, change in changes:
        assert world.run(selection, "demo", overrides=change)
    assert world.run("weight_manifest", "demo", force=True, overrides=changes[-1][1])
    assert len({world.latest("weight_manifest", "demo").pin.data_version, digest}) == 2
    assert printed(lineage_of(world, f"demo@{digest[:12]}")) == before
    assert printed(lineage_of(world, "demo")) != before
    assert faults_of(world, lineage_of(world, f"demo@{digest[:12]}")) == []


def test_a_version_that_comes_back_keeps_its_first_lineage(world: World):
    before = printed(lineage_of(world, "demo"))
    world.run("+weight_manifest", "demo", overrides={"mixtures.demo.top_share": 0.25})
    world.run("+weight_manifest", "demo")
    assert printed(lineage_of(world, "demo")) == before


def test_a_deleted_or_changed_file_is_named_with_what_needs_it(world: World):
    lineage = lineage_of(world, "demo")
    assert faults_of(world, lineage, digests=True) == []
    key = f"{world.checkpoints()[0]}|MW-2026-02"
    scores = world.path("demo/checkpoint_influence", key)
    lost, *_, changed = sorted(scores.glob("shard-*.parquet"))
    source, touched = sorted((world.sources / FIRST_SNAPSHOTS[0]).glob("*.parquet"))[:2]
    lost.unlink()
    _flip_last_byte(changed)
    source.unlink()
    _flip_last_byte(touched)
    named = [
        f"{lost} was deleted (demo/checkpoint_influence[{key}])",
        f"{source} is gone since it was read (snapshot_inventory[{FIRST_SNAPSHOTS[0]}])",
        f"{touched} changed since it was read (snapshot_inventory[{FIRST_SNAPSHOTS[0]}])",
    ]
    assert faults_of(world, lineage) == named
    assert faults_of(world, lineage, digests=True) == [
        named[0],
        f"{changed} was changed (demo/checkpoint_influence[{key}])",
        *named[1:],
    ]


def test_sources_in_an_object_store_are_read_there():
    files = fsspec.filesystem("memory")
    files.pipe({"/crawl/A/same": b"1", "/crawl/A/changed": b"2"})
    digest = hashlib.sha256(b"1").hexdigest()
    names = ("same", "changed", "gone")
    sources = tuple(Source("file", f"memory://crawl/A/{name}", digest) for name in names)
    event = Event("snapshot_inventory", "A", 1, "run", 0.0, "k/d", "s", None, (), {}, None, None, 0.0)
    node = Node(event, Artifact("k", "d", Path(), "s", 0.0, {}), sources)
    faults = check_lineage(Lineage("m@d", {1: node}), Lake(Path()), Path, digests=False)
    assert [(fault.path, fault.problem) for fault in faults] == [
        ("memory://crawl/A/changed", "changed since it was read"),
        ("memory://crawl/A/gone", "is gone since it was read"),
    ]


def test_run_events_follow_the_specification(finished: World):
    events = list(run_events(lineage_of(finished, "demo")))
    started: set[str] = set()
    made: set[str] = set()
    for event in events:
        assert event.keys() == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
        run = event["run"]["runId"]
        assert (run in started) == (event["eventType"] == "COMPLETE")
        started.add(run)
        own = {each["name"] for each in event["inputs"] if each["namespace"] == "automixer"}
        assert own <= made, "inputs come before those who read them"
        for holder in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
            for facet in holder["facets"].values():
                assert facet["_producer"] == event["producer"]
                assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")
        made |= {each["name"] for each in event["outputs"]}
    assert len(events) == 2 * len(lineage_of(finished, "demo").nodes)


def test_a_page_links_to_the_materialisations_it_was_made_from_and_draws_them_small(finished: World):
    (record,) = finished.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("weight_manifest"), asset_partitions=["demo"]), limit=1
    ).records
    assert record.asset_materialization is not None
    shown = {name: str(value.value) for name, value in record.asset_materialization.metadata.items()}
    for pin in upstream(finished.instance, finished.latest("weight_manifest", "demo").pin):
        made = read_event(finished.instance, pin.asset, pin.storage_id).timestamp
        assert f"[{pin.name}](/assets/{pin.asset}?view=events&asOf={round(made * 1000)})" in shown["made from"]
        assert f"(/runs/{pin.run_id})" in shown["made from"]
    assert shown["lineage"].startswith("![plot](data:image/png;base64,")
    assert len(shown["lineage"]) < 100_000


def _flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
