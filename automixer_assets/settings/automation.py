"""Settings of what happens by itself: when snapshots are looked at, when mixtures are rebuilt, who is told."""

from __future__ import annotations

from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from automixer_assets.settings.base import Section


class Alerts(Section):
    """Who is told of a failed run. The webhook's address is a secret, so the settings name its environment variable."""

    command: list[str] | None = Field(
        default=None, min_length=1, description="a program and its arguments; it reads the failure as JSON from stdin"
    )
    webhook_variable: str | None = Field(
        default=None, description="name of the environment variable that holds a URL to which the JSON is posted"
    )
    timeout_seconds: float = Field(default=10, gt=0)


class Automation(Section):
    """Times are cron expressions in `timezone`. Sensors and schedules start switched off: see docs/operations.md."""

    timezone: str = "UTC"
    reinventory: str = Field(default="0 3 * * *", description="look at known snapshots for changed content")
    rebuild_mixtures: str = Field(default="0 6 * * 1", description="make new versions of mixtures that are not current")
    sensor_seconds: int = Field(default=60, ge=5, description="how often the snapshot sensor looks")
    alerts: Alerts = Alerts()

    @model_validator(mode="after")
    def _times_are_understood(self) -> Self:
        for name in ("reinventory", "rebuild_mixtures"):
            if len(getattr(self, name).split()) != 5:
                raise ValueError(f"{name} {getattr(self, name)!r} is no cron expression, such as '0 3 * * *'")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError):
            raise ValueError(f"timezone {self.timezone!r} is unknown; give one such as 'Europe/Berlin'") from None
        return self
