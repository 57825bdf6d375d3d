"""Where a stage runs: in the run's own process, in several under torchrun, or on a Ray cluster.

No choice here changes the bytes of a score. Training is a sum over processes, so their number counts (`Torchrun`).
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator

from automixer_assets.settings.base import Section

Launcher = Literal["local", "torchrun", "ray"]
SHARD_LAUNCHERS = ("local", "ray")
TRAINING_LAUNCHERS = ("local", "torchrun")


def require_plain_url(url: str) -> str:
    """The address of a job server, without a slash at its end; ValueError for what is none or holds a password."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "launchers.ray.job_server holds a user or password: give the cluster's token in RAY_AUTH_TOKEN"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"launchers.ray.job_server {url!r} is no http or https URL: write e.g. http://head:8265")
    return url.rstrip("/")


class RayCluster(Section):
    """A Ray cluster and what its workers get; needs `pip install automixer_assets[ray]`."""

    address: str | None = Field(
        default=None, description="of a running cluster, as `ray.init` takes it; by default one is started here"
    )
    job_server: str | None = Field(
        default=None,
        description="URL of a running cluster's job server, e.g. http://head:8265: stages are submitted as Ray jobs",
    )
    job_python: str = Field(
        default="python", min_length=1, description="the Python on the cluster's head that runs a submitted stage"
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

    @field_validator("job_server")
    @classmethod
    def _is_a_url(cls, url: str | None) -> str | None:
        return url if url is None else require_plain_url(url)

    @model_validator(mode="after")
    def _has_one_way_in(self) -> RayCluster:
        if self.job_server is not None and self.address is not None:
            raise ValueError(
                "launchers.ray has both address and job_server: keep address to connect from here, or job_server to "
                "submit jobs"
            )
        return self

    def without_gpus(self) -> RayCluster:
        """The same for stages that need no GPU."""
        return self.model_copy(update={"workers": self.cpu_workers or self.workers, "gpus_per_worker": 0})


class Torchrun(Section):
    """Processes that train one model together on this machine; on several machines see docs/training.md."""

    processes: int = Field(gt=0, description="one per GPU; they share every batch equally")
    sharded: bool = Field(
        default=False, description="spread parameters and AdamW moments over the processes (FSDP2), for large models"
    )

    @property
    def identity(self) -> dict[str, Any] | None:
        """What of this decides the last bits of the weights: gradients are summed in another order than alone."""
        return self.model_dump(mode="json") if self.processes > 1 else None


class Launchers(Section):
    """The launcher of every stage that has a choice."""

    scoring: Launcher = "local"
    corpus: Launcher = Field(default="local", description="of inventories and of tokenising")
    mixture: Launcher = Field(default="local", description="of joint influence and of groups")
    training: Launcher = Field(default="local", description="of proxies and targets")
    ray: RayCluster = RayCluster()
    torchrun: Torchrun | None = None

    @field_validator("scoring", "corpus", "mixture")
    @classmethod
    def _is_supported(cls, launcher: Launcher, info: ValidationInfo) -> Launcher:
        if launcher not in SHARD_LAUNCHERS:
            raise ValueError(
                f"launchers.{info.field_name} is {launcher!r}, but its shards do not depend on each other: "
                f"choose one of {', '.join(SHARD_LAUNCHERS)}"
            )
        return launcher

    @field_validator("training")
    @classmethod
    def _training_is_supported(cls, launcher: Launcher) -> Launcher:
        if launcher not in TRAINING_LAUNCHERS:
            raise ValueError(
                f"launchers.training is {launcher!r}, but the processes of a run wait for each other at every step: "
                f"choose one of {', '.join(TRAINING_LAUNCHERS)}"
            )
        return launcher

    @model_validator(mode="after")
    def _processes_are_given(self) -> Launchers:
        if self.training == "torchrun" and self.torchrun is None:
            raise ValueError("training: torchrun needs `torchrun: {processes: N}`, one for each GPU to use")
        return self

    @model_validator(mode="after")
    def _mixtures_are_not_submitted(self) -> Launchers:
        if self.mixture == "ray" and self.ray.job_server is not None:
            raise ValueError(
                "launchers.mixture: ray needs a cluster that is joined (`ray: {address: ...}`), for its tasks hold "
                "scorers, which are not sent to a job server: set `mixture: local`"
            )
        return self

    @property
    def trained_by(self) -> Torchrun | None:
        """The processes that train, or None: the run's own process does."""
        return self.torchrun if self.training == "torchrun" else None

    def require_equal_shares(self, batch_sizes: dict[str, int]) -> None:
        """ValueError for a batch, by its place in the settings, that the training processes cannot share equally."""
        processes = 1 if self.trained_by is None else self.trained_by.processes
        for where, batch_size in batch_sizes.items():
            if batch_size % processes:
                raise ValueError(
                    f"{where}.training.batch_size is {batch_size}, which launchers.torchrun.processes, {processes}, "
                    "does not divide: choose another number of processes"
                )
