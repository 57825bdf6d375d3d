"""Many partitions: how long sensor, conditions, schedules and pages take at 100 snapshots x 8 checkpoints.

    python -m benchmarks.automation_load --snapshots 100 --checkpoints 8 [--score 5] [--page]

Everything runs in a state folder of its own. One snapshot is really made, with a tiny trained proxy. The others are
folders with the same bytes whose corpus and scores are recorded as events with the same pins, since 800 real scorings
would measure the model and not the automation; `--score N` leaves N snapshots unscored, which the sensor then asks for
and this process scores for real. Asserts that each of their partitions is scored exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import yaml

from automixer_assets_tests.automation.daemon import Daemon
from automixer_assets_tests.world import World, create_world, tiny_settings

Result = TypeVar("Result")
FIRST = "MW-2026-01"
CORPUS = ("snapshot_inventory", "tokenized_corpus", "leakage")
SCORES = "demo/checkpoint_influence"
PORT = 3117


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshots", type=int, default=100)
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--score", type=int, default=2, help="snapshots that are really scored")
    parser.add_argument("--page", action="store_true", help="also start the web server and time its pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="automation-load-") as folder:
        world = _small_world(Path(folder) / "world", options.checkpoints)
        names = [f"S-{number:03d}" for number in range(options.snapshots - 1)]
        unscored = names[len(names) - options.score :]
        _timed("recording events", lambda: _record_copies(world, names, set(unscored)))
        _measure(world, unscored)
        if options.page:
            _time_pages(world)
        world.close()


def _small_world(folder: Path, checkpoints: int) -> World:
    """One snapshot, and a proxy all of whose checkpoints are selected, one per task."""
    world = create_world(folder)
    settings = tiny_settings()
    settings["corpus"]["arrival"] = {"at_most": 10_000}
    settings["proxies"]["demo"] |= {"snapshots": [FIRST], "checkpoints": checkpoints}
    settings["tokenizer"]["snapshots"] = settings["reference_sample"]["snapshots"] = [FIRST]
    settings.pop("targets")
    world.config.write_text(yaml.safe_dump(settings))
    world.instance.delete_dynamic_partition("snapshot", "MW-2026-02")
    shutil.rmtree(world.sources / "MW-2026-02")
    for name in ("selected_checkpoints", "leakage"):
        world.run(f"+{name}")
    for checkpoint in _all_checkpoints(world):  # whatever the tiny proxy is best at
        world.instance.add_dynamic_partitions("checkpoint_demo", [checkpoint])
    for name in ("reference_sample", "demo/proxy_checkpoints", "demo/influence_query", SCORES):
        world.run(name)
    return world


def _all_checkpoints(world: World) -> list[str]:
    from automixer_assets.proxy.checkpoints import checkpoint_key, list_checkpoints

    return [checkpoint_key("demo", step) for step in list_checkpoints(world.path("demo/proxy_run"))]


def _record_copies(world: World, names: list[str], unscored: set[str]) -> None:
    """Folders with the first snapshot's files, and its events under their names, pins included."""
    checkpoints = sorted(world.instance.get_dynamic_partitions("checkpoint_demo"))
    for name in names:
        shutil.copytree(world.sources / FIRST, world.sources / name)
        recorded: dict[str, dict[str, Any]] = {}
        for asset in CORPUS:
            recorded[asset] = _record(world, asset, FIRST, name, recorded)
        for checkpoint in [] if name in unscored else checkpoints:
            _record(world, SCORES, f"{checkpoint}|{FIRST}", f"{checkpoint}|{name}", recorded)
    world.instance.add_dynamic_partitions("snapshot", names)


def _record(
    world: World, asset: str, source: str, partition: str, recorded: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Report `source`'s latest materialisation as one of `partition`, its pins moved to what was `recorded`."""
    key = dg.AssetKey.from_user_string(asset)
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[source])
    materialization = world.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    assert materialization is not None
    metadata = dict(materialization.metadata)
    pins = [recorded.get(pin["asset"], pin) for pin in json.loads(json.dumps(metadata["pins"].value))]
    metadata["pins"] = dg.MetadataValue.json(pins)
    version = str(metadata["sha256"].value)
    world.instance.report_runless_asset_event(
        dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags={"dagster/data_version": version})
    )
    pin = world.latest(asset, partition).pin
    return vars(pin)


def _measure(world: World, unscored: list[str]) -> None:
    daemon = _timed("loading the code location", lambda: Daemon(world))
    asked = _timed("snapshot sensor, first tick (nothing remembered)", daemon.evaluate)
    checkpoints = sorted(world.instance.get_dynamic_partitions("checkpoint_demo"))
    expected = sorted(f"{checkpoint}|{name}" for checkpoint in checkpoints for name in unscored)
    assert sorted(str(request.partition_key) for request in asked) == expected, "asked for what is not scored, once"
    _timed("stale scores", lambda: daemon.evaluate("stale_scores"))
    with world.active():
        runs = _timed(
            f"scoring {len(asked)} partitions", lambda: [daemon.run(str(each.job_name), each) for each in asked]
        )
    assert all(run.success for run in runs)
    assert _timed("snapshot sensor, next tick", daemon.evaluate) == []
    for cell in expected:
        wanted = dg.AssetRecordsFilter(dg.AssetKey.from_user_string(SCORES), asset_partitions=[cell])
        assert len(world.instance.fetch_materializations(wanted, limit=9).records) == 1, f"{cell} is scored once"
    with world.active():
        evaluation = _timed("automation conditions", lambda: _evaluate(daemon))
    print(f"  conditions ask for {evaluation} partitions of joint influence")


def _evaluate(daemon: Daemon) -> int:
    result = dg.evaluate_automation_conditions(daemon.definitions, daemon.instance)
    return len(result.get_requested_partitions(dg.AssetKey("joint_influence")))


def _timed(what: str, work: Callable[[], Result]) -> Result:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    print(f"{what}: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - cpu:.2f} s CPU", flush=True)
    return result


def _time_pages(world: World) -> None:
    with _web_server(world):
        for page in ("/", f"/assets/{SCORES}", "/automation"):
            _timed(f"page {page} (document)", lambda page=page: _get(page))
        for name, query in QUERIES.items():
            times = []
            for _ in range(5):
                started = time.perf_counter()
                _post(query)
                times.append(time.perf_counter() - started)
            print(f"query {name}: median {sorted(times)[2]:.2f} s, {min(times):.2f} to {max(times):.2f} s")


QUERIES = {
    "partition statuses of the scores": """{ assetNodeOrError(assetKey: {path: ["demo", "checkpoint_influence"]}) {
      ... on AssetNode { assetPartitionStatuses { ... on MultiPartitionStatuses { ranges { primaryDimStartKey } } }
      partitionStats { numMaterialized numPartitions } } } }""",
    "all assets": "{ assetNodes { assetKey { path } staleStatus assetMaterializations(limit: 1) { timestamp } } }",
}


@contextmanager
def _web_server(world: World) -> Iterator[None]:
    command = [str(Path(sys.executable).parent / "dagster-webserver"), "-w", "workspace.yaml", "-p", str(PORT)]
    with subprocess.Popen(
        command,
        env={**os.environ, **world.environment},
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = time.monotonic() + 300
            while time.monotonic() < deadline:
                try:
                    _get("/server_info")
                    break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            process.terminate()


def _get(path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=120) as answer:
        return answer.read()


def _post(query: str) -> None:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/graphql", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        document = json.loads(answer.read())
    assert "errors" not in document, document["errors"][:1]


if __name__ == "__main__":
    main()
