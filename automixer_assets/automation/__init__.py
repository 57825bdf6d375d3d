"""What happens by itself: jobs, sensors and schedules. All start switched off; docs/operations.md says what to turn on.

What belongs here: when something is asked for, and why not. What does not: how it is made (the assets), or whether it
is current (`LakeAsset.is_current`, for the daemon as for the command line). Nothing here scores an old snapshot because
a proxy, a recipe or a setting changed: that costs an accelerator, so it is offered (`stale_scores`), not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from automixer_assets.automation.alerts import failure_sensor
from automixer_assets.automation.arrivals import snapshot_sensor
from automixer_assets.automation.conditions import joint_influence_sensor
from automixer_assets.automation.jobs import asset_jobs
from automixer_assets.automation.schedules import mixture_schedule, reinventory_schedule
from automixer_assets.automation.stale_scores import stale_score_sensor
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.settings import Settings


def automation(settings: Settings, assets: Sequence[LakeAsset]) -> dict[str, Any]:
    """Arguments of `Definitions`."""
    jobs = asset_jobs(settings)
    return {
        "jobs": jobs,
        "sensors": [
            snapshot_sensor(settings, assets, jobs),
            joint_influence_sensor(),
            stale_score_sensor(assets),
            failure_sensor(),
        ],
        "schedules": [reinventory_schedule(settings), mixture_schedule(settings, assets)],
    }
