"""A failed run is told to whom the settings name, in its own words; what kills a process is explained; no secrets."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from automixer_assets.automation.alerts import OUT_OF_MEMORY, describe, failure_sensor, tell
from automixer_assets.errors import AutomixerError
from automixer_assets.resources import Automixer
from automixer_assets.settings import Alerts
from automixer_assets_tests.world import tiny_settings

FAILURE = {"run": "abc", "job": "demo_scores", "assets": [], "partition": "x", "reason": "because"}
RECORD = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@dg.asset(name="scores")
def failing() -> None:
    raise dg.Failure("the token file s3://key:secret@bucket/a is damaged: fetch it again", allow_retries=False)


def failed_run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize([failing], instance=instance, raise_on_error=False)


def record_to(path: Path) -> list[str]:
    return [sys.executable, "-c", RECORD, str(path)]


class _Webhook(http.server.BaseHTTPRequestHandler):
    received: list[dict[str, Any]]
    answer = 200

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Webhook]]:
    handler = type("Webhook", (_Webhook,), {"received": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("TEAM_HOOK", f"http://127.0.0.1:{server.server_address[1]}/services/hunter2")
        yield handler
        server.shutdown()


def test_a_failed_run_is_described_in_the_words_of_its_step_without_credentials(instance: dg.DagsterInstance):
    result = failed_run(instance)
    described = describe(instance, result.dagster_run, "Steps failed: ['scores'].")
    assert described["reason"] == "the token file s3://bucket/a is damaged: fetch it again"
    assert described["run"] == result.run_id


def test_a_killed_process_is_said_to_have_run_out_of_memory(instance: dg.DagsterInstance):
    run = instance.create_run_for_job(dg.define_asset_job("scores_job").resolve(asset_graph=_graph()))
    said = f"Run execution process for {run.run_id} was terminated by signal 9 (SIGKILL)."
    instance.report_engine_event(said, run)
    instance.report_run_failed(run)
    assert describe(instance, run, "failed")["reason"] == OUT_OF_MEMORY


def _graph() -> Any:
    return dg.Definitions(assets=[failing]).resolve_asset_graph()


def test_the_command_reads_the_failure_as_json(tmp_path: Path):
    told = tell(Alerts(command=record_to(tmp_path / "told.json")), FAILURE)
    assert told == [f"command {sys.executable}"]
    assert json.loads((tmp_path / "told.json").read_text()) == FAILURE


def test_the_webhook_gets_the_failure(webhook: type[_Webhook]):
    assert tell(Alerts(webhook_variable="TEAM_HOOK"), FAILURE) == ["webhook in TEAM_HOOK"]
    assert webhook.received == [FAILURE]


def test_a_webhook_that_fails_is_named_by_its_variable_and_its_address_is_not_shown(
    webhook: type[_Webhook], monkeypatch: pytest.MonkeyPatch
):
    webhook.answer = 404
    with pytest.raises(AutomixerError, match=r"^the webhook in TEAM_HOOK answered 404: correct its address$"):
        tell(Alerts(webhook_variable="TEAM_HOOK"), FAILURE)
    for address in ("http://127.0.0.1:9/services/hunter2", "hunter2"):
        monkeypatch.setenv("TEAM_HOOK", address)
        with pytest.raises(AutomixerError, match="the webhook in TEAM_HOOK did not answer") as said:
            tell(Alerts(webhook_variable="TEAM_HOOK"), FAILURE)
        assert "hunter2" not in str(said.value)
    monkeypatch.delenv("TEAM_HOOK")
    with pytest.raises(AutomixerError, match="names TEAM_HOOK, which is not set: export it"):
        tell(Alerts(webhook_variable="TEAM_HOOK"), FAILURE)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["/no/such/program"], r"/no/such/program failed \(FileNotFoundError\): correct automation.alerts.command"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with exit code 3: run it by hand"),
    ],
)
def test_a_command_that_fails_is_named(command: list[str], sentence: str):
    with pytest.raises(AutomixerError, match=sentence):
        tell(Alerts(command=command), FAILURE)


def test_a_command_that_hangs_is_given_up(tmp_path: Path):
    with pytest.raises(AutomixerError, match=r"failed \(TimeoutExpired\)"):
        tell(Alerts(command=["sleep", "60"], timeout_seconds=0.2), FAILURE)


def test_the_sensor_tells_of_a_failed_run(instance: dg.DagsterInstance, tmp_path: Path):
    result = failed_run(instance)
    (event,) = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    document = tiny_settings() | {"automation": {"alerts": {"command": record_to(tmp_path / "told.json")}}}
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        resources={"automixer": Automixer(document=document)},
    ).for_run_failure()
    failure_sensor()(context)
    assert json.loads((tmp_path / "told.json").read_text())["reason"].startswith("the token file s3://bucket/a")
