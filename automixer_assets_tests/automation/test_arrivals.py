"""What the snapshot sensor takes for a snapshot, when it takes it for complete, and what it says of the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import polars as pl
import pytest

from automixer_assets.automation.arrivals import Memory, Tick
from automixer_assets.corpus.sources import MARKER
from automixer_assets.partitions import SNAPSHOTS, register
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import tiny_settings


class Desk:
    """Somewhere snapshots are put, and the sensor's eye on it; nothing is materialised."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.instance, self.crawl = instance, folder / "crawl"
        self.crawl.mkdir()
        self.memory = Memory()
        self.arrival: dict[str, Any] = {}

    def put(self, name: str, *texts: str, marker: bool = True) -> Path:
        folder = self.crawl / name
        folder.mkdir(exist_ok=True)
        rows = {"id": [f"{name}-{text}" for text in texts], "text": list(texts)}
        pl.DataFrame(rows).write_parquet(folder / "a.parquet")
        if marker:
            (folder / MARKER).touch()
        return folder

    def look(self, now: float = 0) -> Tick:
        document = tiny_settings() | {"corpus": {"directory": str(self.crawl), "arrival": self.arrival}}
        self.memory = Memory.read(self.memory.cursor())
        tick = Tick(self.instance, Automixer(document=document), [], self.memory)
        tick.look(now)
        register(self.instance, SNAPSHOTS, tick.arrived)
        return tick

    def observed(self, snapshot: str) -> list[str | None]:
        wanted = dg.AssetRecordsFilter(dg.AssetKey("snapshot_inventory"), asset_partitions=[snapshot])
        records = self.instance.fetch_observations(wanted, limit=10).records
        return [record.asset_observation.description for record in records if record.asset_observation]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("AUTOMIXER_STATE", str(tmp_path / "state"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Desk(tmp_path, instance)


def test_a_snapshot_is_registered_and_inventoried_once_its_marker_is_there(desk: Desk):
    desk.put("S-1", "one", marker=False)
    first = desk.look()
    assert (first.arrived, first.requests) == ([], [])
    assert first.sentences == [
        f"not registered yet: {desk.crawl / 'S-1'} has no _SUCCESS yet: create it when all files are there, or set "
        "corpus.arrival.complete to settled"
    ]

    (desk.crawl / "S-1" / MARKER).touch()
    second = desk.look()
    assert second.arrived == ["S-1"]
    (request,) = second.requests
    assert (request.job_name, request.partition_key) == ("snapshot_corpus", "S-1")
    assert request.asset_selection == [dg.AssetKey("snapshot_inventory")], "tokens need a tokenizer, which is not made"


def test_while_its_corpus_is_being_made_nothing_more_is_asked_for(desk: Desk):
    desk.put("S-1", "one")
    desk.look()
    run = dg.DagsterRun(
        "snapshot_corpus", status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "S-1"}, run_id=str(uuid4())
    )
    desk.instance.add_run(run)
    assert desk.look().requests == []


def test_the_run_key_follows_the_content(desk: Desk):
    desk.put("S-1", "one")
    keys = [desk.look().requests[0].run_key for _ in range(2)]
    desk.put("S-1", "one", "two")
    keys += [desk.look().requests[0].run_key]
    assert keys[0] == keys[1] != keys[2]


def test_without_a_marker_a_snapshot_is_complete_when_it_has_not_changed_for_a_while(desk: Desk):
    desk.arrival = {"complete": "settled", "settled_minutes": 10}
    desk.put("S-1", "one", marker=False)
    assert desk.look(now=0).arrived == []
    assert desk.look(now=599).arrived == []
    desk.put("S-1", "one", "two", marker=False)
    assert desk.look(now=700).arrived == [], "it was still being written"
    assert desk.look(now=1299).arrived == []
    assert desk.look(now=1300).arrived == ["S-1"]


def test_names_that_no_pattern_takes_are_left_alone_and_impossible_ones_are_said(desk: Desk):
    desk.arrival = {"names": ["CC-*", "bad*"]}
    for name in ("CC-1", "other", "bad name"):
        desk.put(name, "text")
    tick = desk.look()
    assert tick.arrived == ["CC-1"]
    assert [sentence[:29] for sentence in tick.sentences] == ["key 'bad name' is not allowed"]


def test_an_empty_folder_with_a_marker_is_no_snapshot(desk: Desk):
    (desk.crawl / "S-1").mkdir()
    (desk.crawl / "S-1" / MARKER).touch()
    tick = desk.look()
    assert tick.arrived == []
    assert "holds no *.parquet file" in tick.sentences[0]


def test_many_at_once_are_left_to_a_person(desk: Desk):
    for number in range(4):
        desk.put(f"S-{number}", "text")
    tick = desk.look()
    assert (tick.arrived, tick.requests) == ([], [])
    assert tick.sentences == [
        "4 snapshots arrived at once (S-0, S-1, S-2, ...), more than corpus.arrival.at_most (3): register them "
        "(`automixer snapshot add`), or raise the limit"
    ]
    desk.arrival = {"at_most": 4}
    assert desk.look().arrived == ["S-0", "S-1", "S-2", "S-3"]


def test_a_withdrawn_snapshot_is_said_on_its_page_once_and_nothing_is_deleted(desk: Desk):
    folder = desk.put("S-1", "one")
    desk.look()
    folder.rename(desk.crawl.parent / "elsewhere")
    sentences = [desk.look().sentences for _ in range(2)]
    assert sentences[0] == sentences[1]
    assert f"{folder} is gone: mixtures go on with what was read from it" in sentences[0][0]
    assert desk.observed("S-1") == sentences[0]
    assert desk.instance.get_dynamic_partitions("snapshot") == ["S-1"]


def test_a_remote_store_is_looked_at_alike(desk: Desk):
    import fsspec

    desk.put("S-1", "one")
    memory = fsspec.filesystem("memory")
    memory.pipe("/arrivals/S-1/a.parquet", (desk.crawl / "S-1" / "a.parquet").read_bytes())
    memory.pipe("/arrivals/S-1/_SUCCESS", b"")
    document = tiny_settings() | {"corpus": {"directory": "memory://arrivals"}}
    tick = Tick(desk.instance, Automixer(document=document), [], Memory())
    tick.look(0)
    assert tick.arrived == ["S-1"]


def test_a_snapshot_registered_by_hand_waits_for_its_marker_too(desk: Desk):
    desk.put("S-1", "one", marker=False)
    register(desk.instance, SNAPSHOTS, ["S-1"])
    tick = desk.look()
    assert tick.requests == []
    assert "not inventoried" in tick.sentences[0]
    (desk.crawl / "S-1" / MARKER).touch()
    assert [request.partition_key for request in desk.look().requests] == ["S-1"]
