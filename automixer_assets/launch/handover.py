"""A job and its tasks as JSON, for a driver that runs on the cluster: no pickle, and no kind but those listed here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from automixer_assets.errors import AutomixerError
from automixer_assets.files import write_atomically
from automixer_assets.launch.job import Job
from automixer_assets.settings.launchers import RayCluster

KINDS = {
    "ScoringJob": "automixer_assets.launch.scoring",
    "TokenShard": "automixer_assets.corpus.shards",
    "DistinctShard": "automixer_assets.influence.copies",
    "MeetJob": "automixer_assets.corpus.inventory_parts",
    "PartJob": "automixer_assets.corpus.inventory_parts",
    "Part": "automixer_assets.corpus.inventory_parts",
    "TokenizingJob": "automixer_assets.corpus.tokenize",
}
"""Every dataclass that is a job or a task, and its module. A task may also be a text."""


class Coded(BaseModel):
    """A job or a task: the name of its kind and its fields."""

    kind: str
    fields: dict[str, Any]


class HandoverFile(BaseModel):
    """What the driver on the cluster is given; `versions` are those of whoever asks (`cluster.versions`)."""

    job: Coded
    tasks: dict[str, Coded | str]
    cluster: RayCluster
    versions: dict[str, str]


@dataclass(frozen=True)
class Handover:
    """The same, ready to run."""

    job: Job
    tasks: Mapping[str, Any]
    cluster: RayCluster
    versions: Mapping[str, str]

    def save(self, path: Path) -> None:
        tasks = {name: task if isinstance(task, str) else encoded(task) for name, task in self.tasks.items()}
        file = HandoverFile(job=encoded(self.job), tasks=tasks, cluster=self.cluster, versions=dict(self.versions))
        write_atomically(path, file.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> Handover:
        """Read what `save` wrote; AutomixerError where there is nothing."""
        try:
            file = HandoverFile.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise AutomixerError(
                f"the head of the Ray cluster finds no {path}: put the lake on a file system that it mounts under the "
                "same path"
            ) from error
        tasks = {name: task if isinstance(task, str) else decoded(task) for name, task in file.tasks.items()}
        return cls(decoded(file.job), tasks, file.cluster, file.versions)


def encoded(value: Any) -> Coded:
    """A job or a task of one of the `KINDS`; TypeError for any other."""
    kind = type(value).__name__
    if KINDS.get(kind) != type(value).__module__:
        raise TypeError(f"{type(value).__module__}.{kind} is not in launch.handover.KINDS: list it there")
    return Coded(kind=kind, fields=TypeAdapter(type(value)).dump_python(value, mode="json"))


def decoded(coded: Coded) -> Any:
    """What `encoded` was given; AutomixerError for a kind that this version does not know."""
    if coded.kind not in KINDS:
        raise AutomixerError(
            f"automixer_assets on the Ray cluster knows no {coded.kind}: install the version there that Dagster has"
        )
    return TypeAdapter(getattr(importlib.import_module(KINDS[coded.kind]), coded.kind)).validate_python(coded.fields)
