"""A Dagster run whose one step scores on a cluster that it submits to."""

import sys
from typing import Any

import dagster as dg

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.launch.scoring import ScoringJob, score_shards_on_ray
from automixer_assets.resources import Automixer
from automixer_assets.settings.launchers import RayCluster

USUAL = {"job_python": sys.executable, "workers": 2, "attempts": 2}


class SubmittedRun:
    """The run, when it has ended."""

    def __init__(self, job: ScoringJob, shards: list[TokenShard], url: str, **cluster: Any) -> None:
        asked = RayCluster.model_validate({"job_server": url} | USUAL | cluster)
        self.seen: list[tuple[int, int]] = []

        def on_progress(done: int, total: int) -> None:
            self.seen.append((done, total))

        @dg.asset
        def scored(context: dg.AssetExecutionContext, automixer: Automixer) -> dg.MaterializeResult:
            score_shards_on_ray(job, shards, asked, on_progress=on_progress, log=context.log.info)
            return dg.MaterializeResult(metadata={"rows": 3})

        self.instance = dg.DagsterInstance.ephemeral()
        self.result = dg.materialize(
            [scored], instance=self.instance, resources={"automixer": Automixer()}, raise_on_error=False
        )

    @property
    def said(self) -> list[str]:
        return [entry.user_message for entry in self.instance.all_logs(self.result.run_id)]

    @property
    def metadata(self) -> dict[str, Any]:
        (event,) = self.result.asset_materializations_for_node("scored")
        return {name: value.value for name, value in event.metadata.items()}

    @property
    def error(self) -> str:
        """The class and message of what the step raised."""
        (failed,) = [event for event in self.result.all_events if event.is_step_failure]
        error = failed.step_failure_data.error
        assert error is not None
        return (error.cause or error).message
