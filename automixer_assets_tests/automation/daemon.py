"""What the daemon does, without one: ticks of sensors and schedules, conditions, and the runs that they ask for.

Sensors and schedules are the real ones, called as the daemon calls them; runs are executed here, in order.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.automation.jobs import MIXTURE_JOB
from automixer_assets.definitions import build_defs
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.lineage import asset_name
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import World

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
JOINT = dg.AssetKey("joint_influence")


class Daemon:
    """Everything switched on, against one world. `log` lists the asset partitions that ran, in order."""

    def __init__(self, world: World) -> None:
        self.world, self.instance = world, world.instance
        self.log: list[str] = []
        self.said: list[str] = []
        self._cursors: dict[str, Any] = {}
        self._run_keys: set[str] = set()
        with world.active():
            settings = Automixer().settings()
            self.assets: list[LakeAsset] = all_assets(settings)
            self.definitions = build_defs(settings)
            self.look_at_conditions()

    def tick(self, sensor: str = "snapshot_arrivals") -> list[dg.RunRequest]:
        """Evaluate a sensor and run what it asks for."""
        with self.world.active():
            requests = self.evaluate(sensor)
            for request in requests:
                self.run(str(request.job_name), request)
        return requests

    def evaluate(self, sensor: str = "snapshot_arrivals") -> list[dg.RunRequest]:
        """Evaluate a sensor: keys are registered, events recorded, and only new run keys come back."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(sensor),
            definitions=self.definitions,
            resources={"automixer": Automixer()},
        )
        with self.world.active():
            result = self.definitions.get_sensor_def(sensor)(context)
        assert isinstance(result, dg.SensorResult)
        self._cursors[sensor] = result.cursor
        for change in result.dynamic_partitions_requests or []:
            assert isinstance(change, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions(change.partitions_def_name, list(change.partition_keys))
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        reason = result.skip_reason
        self.said = [] if reason is None else [str(reason if isinstance(reason, str) else reason.skip_message)]
        fresh = [request for request in result.run_requests or [] if request.run_key not in self._run_keys]
        self._run_keys.update(str(request.run_key) for request in fresh)
        return fresh

    def schedule(self, name: str) -> list[dg.RunRequest]:
        """One tick of a schedule."""
        definition = self.definitions.get_schedule_def(name)
        with self.world.active():
            context = dg.build_schedule_context(
                instance=self.instance,
                scheduled_execution_time=datetime.now(UTC),
                repository_def=self.definitions.get_repository_def(),
                resources={"automixer": Automixer()},
            )
            result = definition.evaluate_tick(context)
            self.said = [result.skip_message] if result.skip_message else []
            requests = list(result.run_requests or [])
            for request in requests:
                self.run(str(definition.job_name), request)
        return requests

    def look_at_conditions(self) -> list[str]:
        """Evaluate the automation conditions and run what they ask for; returns the partitions."""
        with self.world.active():
            result = dg.evaluate_automation_conditions(
                self.definitions, self.instance, cursor=self._cursors.get("conditions")
            )
            self._cursors["conditions"] = result.cursor
            wanted = sorted(str(key) for key in result.get_requested_partitions(JOINT))
            for key in wanted:
                self.run("__ASSET_JOB", dg.RunRequest(partition_key=key, asset_selection=[JOINT]))
        return wanted

    def run(self, job: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            run_config=QUIET,
            tags=dict(request.tags),
            raise_on_error=False,
        )
        self.log.extend(
            asset_name(event.asset_key.to_user_string(), event.partition)
            for event in result.all_events
            if event.is_step_materialization and event.asset_key
        )
        return result

    def settle(self, ticks: int = 4) -> list[str]:
        """Tick until nothing more is asked for; returns what ran meanwhile."""
        begun = len(self.log)
        for _ in range(ticks):
            if not self.tick() and not self.look_at_conditions():
                break
        return self.log[begun:]

    def rebuild(self, mixture: str) -> None:
        with self.world.active():
            self.run(MIXTURE_JOB, dg.RunRequest(partition_key=mixture))
