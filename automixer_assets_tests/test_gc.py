"""Removal takes everything that nothing kept was made from, and never anything else."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.assets import all_assets
from automixer_assets.errors import AutomixerError
from automixer_assets.gc import Retention, collect, survey
from automixer_assets.lake import MARKER, Lake
from automixer_assets.lake_removal import TRASH, unfinished
from automixer_assets.lineage import Pin
from automixer_assets.locks import exclusive
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import World, contents

KINDS = ("tokenized_corpus", "joint_influence", "grouped_shards")


class Log:
    """A lake and an event log, and materialisations put into both by hand."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance = Lake(root / "lake"), instance
        self.pins: list[Pin] = []

    def add(self, asset: str, partition: str, digest: str, reads: list[Pin]) -> Pin:
        """A materialisation of the artefact `digest`, which may be there already."""

        def write(out: Path) -> None:
            (out / "data").write_text(digest)

        uri = self.lake.publish(asset, digest, write).uri
        metadata = {
            "uri": uri,
            "sha256": digest,
            "pins": dg.MetadataValue.json([asdict(pin) for pin in reads]),
        }
        event = dg.AssetMaterialization(asset, partition=partition, metadata=metadata)
        self.instance.report_runless_asset_event(event)
        wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
        record = self.instance.fetch_materializations(wanted, limit=1).records[0]
        self.pins.append(Pin(asset, partition, digest, record.run_id, record.storage_id, uri, digest))
        return self.pins[-1]

    @property
    def uris(self) -> set[str]:
        return {artifact.uri for artifact in self.lake.artifacts()}


@contextmanager
def log_of(folder: Path) -> Iterator[Log]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Log(folder, instance)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[str, str, str, list[int]]]:
    """(asset, partition, digest, indices of what it reads), everything after what it reads."""
    steps: list[tuple[str, str, str, list[int]]] = []
    for index in range(draw(st.integers(1, 12))):
        asset = draw(st.sampled_from([*KINDS, "weight_manifest"]))
        partition = draw(st.sampled_from(["a", "b"]))
        digest = f"{asset}-{draw(st.integers(0, 3))}"
        reads = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        steps.append((asset, partition, digest, reads))
    return steps


def needed(steps: list[tuple[str, str, str, list[int]]], retention: Retention) -> set[str]:
    """The artefacts to keep, found the slow way: by asking of each materialisation whether a root leads to it."""

    def below(index: int) -> set[int]:
        return {index}.union(*(below(read) for read in steps[index][3]))

    uris = [f"{asset}/{digest}" for asset, _, digest, _ in steps]
    roots = set()
    for mixture in ("a", "b"):
        own = [i for i, step in enumerate(steps) if step[:2] == ("weight_manifest", mixture)]
        digests = list(dict.fromkeys(steps[i][2] for i in reversed(own)))[: retention.keep_last]
        roots |= {i for i in own if steps[i][2] in digests}
    read = {uris[i] for i in roots} | {uris[j] for i in roots for j in steps[i][3] if steps[j][0] == "grouped_shards"}
    about = {
        i for i, step in enumerate(steps) if step[0] != "weight_manifest" and any(uris[j] in read for j in step[3])
    }
    if retention.keep_current:
        roots |= {max(i for i, other in enumerate(steps) if other[:2] == step[:2]) for step in steps}
    return {uris[i] for root in roots | about for i in below(root)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    graphs(),
    st.builds(Retention, keep_last=st.sampled_from([None, 1, 2]), keep_current=st.booleans()),
)
def test_what_nothing_kept_was_made_from_goes_and_all_else_stays(
    steps: list[tuple[str, str, str, list[int]]], retention: Retention
):
    folder = Path(tempfile.mkdtemp())
    with log_of(folder) as log:
        for asset, partition, digest, reads in steps:
            log.add(asset, partition, digest, [log.pins[index] for index in reads])
        before = log.uris
        keep = needed(steps, retention)
        assert {each.uri for each in survey(log.instance, log.lake, [], retention).removable} == before - keep
        assert log.uris == before, "a survey removes nothing"
        collect(log.instance, log.lake, [], retention)
        assert log.uris == keep
        for uri in keep:
            assert (log.lake.open(uri).path / "data").read_text() == uri.partition("/")[2]
        assert survey(log.instance, log.lake, [], retention).removable == []
    shutil.rmtree(folder)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with log_of(tmp_path) as log:
        yield log


def test_what_was_removed_is_said_when_it_is_asked_for_and_can_be_made_again(log: Log):
    old = log.add("joint_influence", "a", "old", [])
    log.add("joint_influence", "a", "new", [])
    collect(log.instance, log.lake, [], Retention())
    said = r"joint_influence/old was removed by `automixer gc` on \d{4}-\d\d-\d\d, since no mixture pins it: restore it"
    with pytest.raises(AutomixerError, match=said):
        log.lake.open(old.uri)
    log.add("joint_influence", "a", "old", [])
    assert log.lake.open(old.uri).digest == "old"
    assert not log.lake.tombstone(old.uri).exists()


def test_an_older_version_of_a_mixture_goes_only_when_asked(log: Log):
    versions = [
        log.add("weight_manifest", "a", f"m{i}", [log.add("grouped_shards", "a", f"g{i}", [])]) for i in range(3)
    ]
    target = log.add("target_runs", "a", "t0", [versions[0]])
    log.add("target_runs", "a", "t2", [versions[2]])
    assert survey(log.instance, log.lake, [], Retention()).removable == []
    assert target.uri in survey(log.instance, log.lake, [], Retention()).kept, "it says what a kept mixture is worth"
    found = survey(log.instance, log.lake, [], Retention(keep_last=2))
    assert [(each.uri, each.why) for each in found.removable] == [
        ("grouped_shards/g0", "no mixture pins it"),
        ("target_runs/t0", "no mixture pins it"),
        ("weight_manifest/m0", "it is none of the last 2 versions of its mixture"),
    ]
    assert found.size == sum(len(text) for text in ("g0", "t0", "m0"))


def test_results_that_a_kept_writer_used_stay_and_those_of_a_removed_one_go(log: Log):
    def evaluate(*digests: str) -> None:
        for digest in digests:
            log.lake.publish("evaluation", digest, lambda out: (out / "data").touch())

    evaluate("first")  # by hand, used by no writer
    log.lake.publish("benchmark_table", "old", lambda out: evaluate("second", "shared"))
    log.lake.publish("benchmark_table", "new", lambda out: evaluate("third", "shared"))
    for digest in ("old", "new"):
        log.add("benchmark_table", "a", digest, [])
    removable = {each.uri for each in survey(log.instance, log.lake, [], Retention()).removable}
    assert removable == {"benchmark_table/old", "evaluation/first", "evaluation/second"}


def test_results_stay_where_a_kept_artefact_is_older_than_the_record_of_uses(log: Log):
    log.lake.publish("evaluation", "first", lambda out: (out / "data").touch())
    pin = log.add("benchmark_table", "a", "t", [])
    marker = log.lake.root / pin.uri / MARKER
    document = json.loads(marker.read_text())
    del document["uses"], document["sizes"]
    marker.write_text(json.dumps(document))
    assert survey(log.instance, log.lake, [], Retention()).removable == []


def test_a_lake_whose_event_log_is_lost_is_left_alone(log: Log):
    log.add("weight_manifest", "a", "m", [log.add("grouped_shards", "a", "g", [])])
    with dg.DagsterInstance.ephemeral() as empty, pytest.raises(AutomixerError, match="the event log does not know"):
        collect(empty, log.lake, [], Retention(keep_current=False))
    assert log.uris == {"weight_manifest/m", "grouped_shards/g"}


def test_a_lost_event_of_a_pinned_input_stops_the_removal(log: Log):
    lost = Pin("grouped_shards", "a", "g", "run", 10_000, "grouped_shards/g", "g")
    log.add("weight_manifest", "a", "m", [lost])
    log.add("tokenized_corpus", "a", "old", [])
    log.add("tokenized_corpus", "a", "new", [])
    with pytest.raises(AutomixerError, match=r"no longer holds materialisation 10000 of grouped_shards\[a\]"):
        collect(log.instance, log.lake, [], Retention())
    assert "tokenized_corpus/old" in log.uris


def test_nothing_is_removed_while_something_is_materialised(log: Log):
    log.add("tokenized_corpus", "a", "old", [])
    log.add("tokenized_corpus", "a", "new", [])
    with log.lake.in_use(), pytest.raises(AutomixerError, match="something is being materialised: wait"):
        collect(log.instance, log.lake, [], Retention())
    run = create_run_for_test(log.instance, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(AutomixerError, match=f"run {run.run_id} is under way"):
        collect(log.instance, log.lake, [], Retention())
    assert log.uris == {"tokenized_corpus/old", "tokenized_corpus/new"}


def test_a_removal_that_was_killed_is_finished_by_the_next(log: Log, monkeypatch: pytest.MonkeyPatch):
    for digest in ("one", "two", "three"):
        log.add("tokenized_corpus", "a", digest, [])
    plain, calls = Path.rename, iter(range(10))

    def killed(path: Path, target: Path) -> Path:
        if path.parent.name == "tokenized_corpus" and not path.name.startswith(".") and next(calls) == 1:
            raise KeyboardInterrupt
        return plain(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(log.instance, log.lake, [], Retention())
    left = survey(log.instance, log.lake, [], Retention())
    assert (len(left.removable), left.trash > 0) == (1, True)
    assert log.lake.open(left.removable[0].uri), "what was not moved yet is whole"
    collect(log.instance, log.lake, [], Retention())
    assert log.uris == {"tokenized_corpus/three"}
    assert not (log.lake.root / TRASH).exists()


def test_an_unfinished_pass_goes_only_when_asked_and_never_from_under_its_writer(log: Log):
    for digest in ("left", "busy"):
        (log.lake.root / "joint_influence" / f".partial-{digest}").mkdir(parents=True)
    with exclusive(log.lake.root / "joint_influence" / ".busy.lock"):
        collect(log.instance, log.lake, [], Retention())
        assert len(unfinished(log.lake)) == 2
        collect(log.instance, log.lake, [], Retention(keep_unfinished=False))
        assert [each.uri for each in unfinished(log.lake)] == ["joint_influence/busy"]


def test_what_was_superseded_goes_and_the_pipeline_goes_on(world: World):
    """Going back to settings whose artefacts are gone makes them again, and what was kept is not touched."""
    mixture = world.latest("weight_manifest", "demo").pin
    # A manifest also says when it was made: its digest does not, and is compared below.
    before = {name: digest for name, digest in contents(world.lake.root).items() if not name.endswith("manifest.json")}
    world.run("+weight_manifest", "demo", overrides={"mixtures.demo.top_share": 0.25})
    with world.active():
        assets = all_assets(Automixer().settings())
    assert survey(world.instance, world.lake, assets, Retention()).removable == []

    gone = collect(world.instance, world.lake, assets, Retention(keep_last=1, keep_current=False))
    kinds = {each.uri.partition("/")[0] for each in gone.removable}
    assert {"weight_manifest", "grouped_shards", "target_runs", "comparison_table"} <= kinds
    assert not kinds & {"checkpoint_influence", "proxy_run", "tokenized_corpus"}
    with pytest.raises(AutomixerError, match=f"{mixture.uri} was removed by `automixer gc`"):
        world.lake.open(mixture.uri)
    assert "weight_manifest[demo]" in world.run()
    assert before.items() <= contents(world.lake.root).items(), "what is made again is the same"
    assert world.latest("weight_manifest", "demo").pin.data_version == mixture.data_version


def test_scores_of_a_withdrawn_snapshot_stay_while_a_mixture_pins_them(world: World):
    with world.active():
        assets = all_assets(Automixer().settings())
    world.instance.delete_dynamic_partition("snapshot", "MW-2026-02")
    world.run()
    pinned = survey(world.instance, world.lake, assets, Retention())
    assert not [each for each in pinned.removable if "influence" in each.uri]
    lone = survey(world.instance, world.lake, assets, Retention(keep_last=1))
    withdrawn = {name for each in lone.removable for name in each.names if name.endswith("|MW-2026-02]")}
    assert {f"demo/checkpoint_influence[{key}|MW-2026-02]" for key in world.checkpoints()} <= withdrawn
