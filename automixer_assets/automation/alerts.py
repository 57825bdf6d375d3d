"""Who is told when a run fails: a command that reads JSON, or a webhook. Also where a killed process is explained.

Addresses of webhooks are secrets: the settings name the environment variable, and no log or message holds its value.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from typing import Any

import dagster as dg

from automixer_assets.corpus.sources import without_credentials
from automixer_assets.errors import AutomixerError
from automixer_assets.out_of_memory import KILLED, MEMORY_REMEDY
from automixer_assets.resources import Automixer
from automixer_assets.settings import Alerts

FAILURE_SENSOR = "failed_runs"
OUT_OF_MEMORY = f"the run's process was killed (exit code -9), most likely for want of memory: {MEMORY_REMEDY}"


def failure_sensor() -> dg.SensorDefinition:
    """Off by default; every failed run of this code location, once."""

    @dg.run_failure_sensor(
        name=FAILURE_SENSOR,
        description="Explains killed processes in the run's log, and tells those whom automation.alerts names.",
    )
    def failed_runs(context: dg.RunFailureSensorContext, automixer: Automixer) -> dg.SkipReason | None:
        failure = describe(context.instance, context.dagster_run, context.failure_event.message or "")
        if failure["reason"] == OUT_OF_MEMORY:
            context.instance.report_engine_event(OUT_OF_MEMORY, context.dagster_run)
        told = tell(automixer.settings().automation.alerts, failure)
        context.log.info(f"run {context.dagster_run.run_id}: {', '.join(told) or 'nobody is to be told'}")
        return None if told else dg.SkipReason("automation.alerts names no command and no webhook")

    return failed_runs


def describe(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> dict[str, Any]:
    """What an alert says: run, job, assets, partition, and the reason in the failed step's own words."""
    reasons = [
        _step_reason(record) for record in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    engine = " ".join(
        str(entry.message) for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    )
    killed = KILLED.search(f"{message} {engine}") is not None
    reason = OUT_OF_MEMORY if killed else next((each for each in reasons if each), message)
    return {
        "run": run.run_id,
        "job": run.job_name,
        "assets": sorted(key.to_user_string() for key in run.asset_selection or ()),
        "partition": run.tags.get("dagster/partition"),
        "reason": without_credentials(reason),
    }


def tell(alerts: Alerts, failure: dict[str, Any]) -> list[str]:
    """Run the command and call the webhook; returns who was told.

    Raises:
        AutomixerError: one of them failed, in a sentence without addresses. The tick is retried by nobody: it is shown.
    """
    body = json.dumps(failure).encode()
    told = []
    if alerts.command is not None:
        _run(alerts.command, body, alerts.timeout_seconds)
        told.append(f"command {alerts.command[0]}")
    if alerts.webhook_variable is not None:
        _post(alerts.webhook_variable, body, alerts.timeout_seconds)
        told.append(f"webhook in {alerts.webhook_variable}")
    return told


def _run(command: list[str], body: bytes, timeout: float) -> None:
    try:
        done = subprocess.run(command, input=body, timeout=timeout, capture_output=True, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AutomixerError(
            f"the alert command {command[0]} failed ({type(error).__name__}): correct automation.alerts.command"
        ) from None
    if done.returncode != 0:
        raise AutomixerError(
            f"the alert command {command[0]} ended with exit code {done.returncode}: run it by hand to see why"
        )


def _post(variable: str, body: bytes, timeout: float) -> None:
    address = os.environ.get(variable)
    if not address:
        raise AutomixerError(f"automation.alerts.webhook_variable names {variable}, which is not set: export it")
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout):
            pass
    except urllib.error.HTTPError as error:
        raise AutomixerError(f"the webhook in {variable} answered {error.code}: correct its address") from None
    except (OSError, ValueError) as error:
        raise AutomixerError(
            f"the webhook in {variable} did not answer ({type(error).__name__}): correct its address or the network"
        ) from None


def _step_reason(entry: dg.EventLogEntry) -> str | None:
    event = entry.dagster_event
    data = event.step_failure_data if event is not None else None
    if data is None:
        return None
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = None if data.error is None else data.error.cause or data.error
    return None if error is None else error.message.strip()
