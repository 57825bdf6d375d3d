"""The daily life of a data team, with a real daemon and a real browser: what a person sees and clicks.

Minutes on two cores: `make test-ui` runs it, `make test` skips it. Screenshots go to AUTOMIXER_SCREENSHOTS, if set.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from automixer_assets.lineage import latest
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets_tests.automation.test_chain import drop_snapshot
from automixer_assets_tests.world import FIRST_SNAPSHOTS, NEW_SNAPSHOT, World

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST_WAIT = 900.0
PAGE_TIMEOUT = 120_000
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
LOCATION = "/locations/automixer_assets"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("AUTOMIXER_TEST_UI"), reason="a browser and a daemon: make test-ui"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


class Site:
    """`make dev` over a world, and a browser on it."""

    def __init__(self, world: World, port: int, page: Any) -> None:
        self.world, self.page, self.address = world, page, f"http://127.0.0.1:{port}"

    def open(self, path: str, *texts: str) -> None:
        """Open a page and wait until a person sees these texts."""
        self.page.goto(self.address + path, timeout=PAGE_TIMEOUT)
        for text in texts:
            self.page.get_by_text(text).first.wait_for(timeout=PAGE_TIMEOUT)

    def picture(self, name: str) -> None:
        if folder := os.environ.get("AUTOMIXER_SCREENSHOTS"):
            self.page.wait_for_timeout(2000)  # what slides in has arrived
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))

    def switch_on(self, kind: str, name: str) -> None:
        self.open(f"{LOCATION}/{kind}/{name}", name)
        switch = self.page.locator("label:has(input[type=checkbox])").first
        switch.click()
        wait_until(lambda: switch.locator("input").is_checked(), f"{name} is not switched on")

    def graphql(self, query: str, **variables: Any) -> Any:
        response = self.page.request.post(f"{self.address}/graphql", data={"query": query, "variables": variables})
        document = response.json()
        assert "errors" not in document, document
        return document["data"]

    def storage_id(self, asset: str, partition: str | None) -> int:
        found = latest(self.world.instance, asset, partition)
        return 0 if found is None else found.pin.storage_id


def wait_until(condition: Callable[[], object], otherwise: str, seconds: float = LONGEST_WAIT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.5)


@pytest.fixture(scope="module")
def site(finished: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from playwright.sync_api import sync_playwright

    world = finished.copy(tmp_path_factory.mktemp("ui") / "world")
    settings = yaml.safe_load(world.config.read_text())
    settings["automation"] = {"rebuild_mixtures": "* * * * *", "sensor_seconds": 5}
    world.config.write_text(yaml.safe_dump(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = _make_dev(world, port)
    try:
        wait_until(lambda: _answers(port), f"make dev does not answer: {_log(world)}", 300)
        with sync_playwright() as playwright:
            options = ["--no-sandbox", "--disable-background-networking"]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
            yield Site(world, port, browser.new_page(viewport={"width": 1400, "height": 900}))
            browser.close()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        world.close()


def _make_dev(world: World, port: int) -> subprocess.Popen[str]:
    """`make dev` as a person starts it: in a session of its own, interruptible; the set-up is taken as done."""
    environment = {**os.environ, **world.environment}
    for name in ("DAGSTER_HOME", "MAKEFLAGS", "MAKEOVERRIDES", "ARGS"):  # what `make test-ui ARGS=...` passes on
        environment.pop(name, None)
    arguments = [f"VENV={sys.prefix}", f"PORT={port}", f"AUTOMIXER_STATE={world.state}"]
    return subprocess.Popen(
        ["make", "-o", "setup", "dev", *arguments],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=(world.folder / "dev.log").open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    )


def _interruptible() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _log(world: World) -> str:
    return (world.folder / "dev.log").read_text()[-2000:]


def test_a_dropped_snapshot_is_scored_and_a_new_mixture_appears(site: Site):
    world = site.world
    switches = ("snapshot_arrivals", "joint_influence_follows", "reinventory", "rebuild_mixtures", "stale_scores")
    site.open("/automation", *switches, "failed_runs")
    site.picture("automation")
    site.switch_on("sensors", "snapshot_arrivals")
    site.switch_on("sensors", "joint_influence_follows")
    site.switch_on("schedules", "rebuild_mixtures")
    mixture = site.storage_id("weight_manifest", "demo")
    scores = {key: site.storage_id("demo/checkpoint_influence", key) for key in _old_cells(world)}

    drop_snapshot(world)
    wait_until(lambda: site.storage_id("weight_manifest", "demo") > mixture, f"no new mixture: {_log(world)}")
    for checkpoint in world.checkpoints():
        cell = f"{checkpoint}|{NEW_SNAPSHOT}"
        wanted = dg.AssetRecordsFilter(dg.AssetKey(["demo", "checkpoint_influence"]), asset_partitions=[cell])
        assert len(world.instance.fetch_materializations(wanted, limit=9).records) == 1, f"{cell} is scored once"
    assert {key: site.storage_id("demo/checkpoint_influence", key) for key in scores} == scores, "old ones stay"

    site.open("/assets/weight_manifest?partition=demo", ", ".join([*FIRST_SNAPSHOTS, NEW_SNAPSHOT]), "weights")
    site.picture("new_mixture")
    site.open("/runs", "snapshot_corpus", "demo_scores", "rebuild_mixture", "Success")
    site.picture("runs")
    under_way = dg.RunsFilter(statuses=[status for status in dg.DagsterRunStatus if status not in FINISHED])
    wait_until(lambda: not world.instance.get_runs(under_way), "the daemon is still at a mixture")
    assert world.run("weight_manifest") == [], "the command line finds the daemon's mixtures current"


def _old_cells(world: World) -> list[str]:
    return [f"{checkpoint}|{snapshot}" for checkpoint in world.checkpoints() for snapshot in FIRST_SNAPSHOTS]


def test_an_asset_is_materialised_by_a_click_and_shows_its_metadata(site: Site):
    before = site.storage_id("comparison_table", None)
    site.open(
        "/assets/comparison_table",
        "Is the mixture better than the baseline at the same token budget, and by how much?",
        "Materialize",
    )
    site.page.get_by_role("button", name="Materialize").first.click()
    wait_until(lambda: site.storage_id("comparison_table", None) > before, f"nothing ran: {_log(site.world)}")
    site.open("/assets/comparison_table", "Metadata", "pins", "target_runs")
    site.picture("materialised")


LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"


def test_a_cancelled_run_frees_its_slot_and_leaves_nothing_half_written(site: Site):
    instance, lake = site.world.instance, site.world.lake.root
    published = {path.name for path in (lake / "proxy_run").iterdir() if not path.name.startswith(".")}
    run_id = _launch_long_training(site)
    wait_until(lambda: list(lake.glob("proxy_run/.partial-*/resume/step-*")), f"no training: {_log(site.world)}")
    assert instance.event_log_storage.get_concurrency_info("accelerator").active_run_ids == {run_id}

    assert site.graphql(TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    wait_until(lambda: _status(instance, run_id) == dg.DagsterRunStatus.CANCELED, "it is not cancelled")
    freed = "the slot is still taken"
    wait_until(lambda: not instance.event_log_storage.get_concurrency_info("accelerator").active_run_ids, freed, 120)
    assert {path.name for path in (lake / "proxy_run").iterdir() if not path.name.startswith(".")} == published
    site.open(f"/runs/{run_id}", "Canceled")


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus | None:
    run = instance.get_run_by_id(run_id)
    return None if run is None else run.status


def _launch_long_training(site: Site) -> str:
    """The proxy with a hundred times its steps, by the same request that the launchpad makes."""
    overrides = {"proxies.demo.training.steps": 20_000, "proxies.demo.training.resume_every": 5}
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "automixer_assets",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": ["demo", "proxy_run"]}],
        "assetCheckSelection": [{"assetKey": {"path": ["demo", "proxy_run"]}, "name": "loss_is_finite_and_fell"}],
    }
    config = {"resources": {"automixer": {"config": {"overrides": overrides}}}}
    answer = site.graphql(LAUNCH, params={"selector": selector, "runConfigData": config})["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]
