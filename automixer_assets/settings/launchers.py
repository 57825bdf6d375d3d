"""Where a stage runs: in the run's own process, or on a Ray cluster. No choice here changes the bytes of a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from automixer_assets.settings.base import Section

Launcher = Literal["local", "torchrun", "ray"]
SCORING_LAUNCHERS = ("local", "ray")


class RayCluster(Section):
    """A Ray cluster and what its workers get; needs `pip install automixer_assets[ray]`."""

    address: str | None = Field(
        default=None, description="of a running cluster, as `ray.init` takes it; by default one is started here"
    )
    workers: int = Field(default=2, gt=0, description="processes that hold model and query; one per GPU")
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    attempts: int = Field(default=3, gt=0, description="how often a shard may fail before it is set aside")
    patience_seconds: float = Field(
        default=300, gt=0, description="without any worker for so long, the run fails and says what is missing"
    )


class Launchers(Section):
    """The launcher of every stage that has a choice."""

    scoring: Launcher = "local"
    ray: RayCluster = RayCluster()

    @field_validator("scoring")
    @classmethod
    def _scoring_is_supported(cls, launcher: Launcher) -> Launcher:
        if launcher not in SCORING_LAUNCHERS:
            raise ValueError(
                f"launchers.scoring is {launcher!r}, but shards are scored independently of each other: "
                f"choose one of {', '.join(SCORING_LAUNCHERS)}"
            )
        return launcher
