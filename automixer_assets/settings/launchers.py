"""Where a stage runs: in the run's own process, or on a Ray cluster. No choice here changes the bytes of a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from automixer_assets.settings.base import Section

Launcher = Literal["local", "torchrun", "ray"]
SHARD_LAUNCHERS = ("local", "ray")


class RayCluster(Section):
    """A Ray cluster and what its workers get; needs `pip install automixer_assets[ray]`."""

    address: str | None = Field(
        default=None, description="of a running cluster, as `ray.init` takes it; by default one is started here"
    )
    workers: int = Field(default=2, gt=0, description="processes that hold model and query; one per GPU")
    cpu_workers: int | None = Field(
        default=None, gt=0, description="processes of stages that need no GPU; by default as many"
    )
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    attempts: int = Field(default=3, gt=0, description="how often a shard may fail before it is set aside")
    patience_seconds: float = Field(
        default=300, gt=0, description="without any worker for so long, the run fails and says what is missing"
    )

    def without_gpus(self) -> RayCluster:
        """The same for stages that need no GPU."""
        return self.model_copy(update={"workers": self.cpu_workers or self.workers, "gpus_per_worker": 0})


class Launchers(Section):
    """The launcher of every stage that has a choice."""

    scoring: Launcher = "local"
    corpus: Launcher = Field(default="local", description="of inventories and of tokenising")
    ray: RayCluster = RayCluster()

    @field_validator("scoring", "corpus")
    @classmethod
    def _is_supported(cls, launcher: Launcher, info: ValidationInfo) -> Launcher:
        if launcher not in SHARD_LAUNCHERS:
            raise ValueError(
                f"launchers.{info.field_name} is {launcher!r}, but its shards do not depend on each other: "
                f"choose one of {', '.join(SHARD_LAUNCHERS)}"
            )
        return launcher
