"""A job and its tasks as a file: what a Ray job reads that was submitted to do them. JSON of known kinds, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from automixer_assets.errors import AutomixerError
from automixer_assets.files import write_atomically
from automixer_assets.launch.job import Job
from automixer_assets.settings.launchers import RayCluster

KINDS = {
    "ScoringJob": ("automixer_assets.launch.scoring", "TokenShard"),
    "TokenizingJob": ("automixer_assets.corpus.tokenize", None),
    "MeetJob": ("automixer_assets.corpus.inventory_parts", "Part"),
    "PartJob": ("automixer_assets.corpus.inventory_parts", "Part"),
}
"""Class of a job -> its module, and what of that module its tasks are (None: names)."""
DONE, ERROR = "done", "error"
"""What the driver reports: a task that is done; the sentence of an AutomixerError."""


@dataclass(frozen=True)
class Submission:
    """Everything that a driver on the cluster needs.

    Attributes:
        versions: of what decides bytes, where it was submitted (`cluster.versions`).
    """

    job: Job
    tasks: Mapping[str, Any]
    cluster: RayCluster
    versions: Mapping[str, str]


def write_submission(submission: Submission, path: Path) -> None:
    """Raises AutomixerError for a job of a kind that is not in `KINDS`."""
    kind = type(submission.job).__name__
    job, task = _types(kind)
    content = {
        "kind": kind,
        "job": job.dump_python(submission.job, mode="json"),
        "tasks": {name: task.dump_python(each, mode="json") for name, each in submission.tasks.items()},
        "cluster": submission.cluster.model_dump(mode="json"),
        "versions": dict(submission.versions),
    }
    write_atomically(path, json.dumps(content).encode())


def read_submission(path: Path) -> Submission:
    """Raises AutomixerError for a file that is not there, or is not one that `write_submission` wrote."""
    try:
        content = json.loads(path.read_text())
        job, task = _types(content["kind"])
        return Submission(
            job.validate_python(content["job"]),
            {name: task.validate_python(each) for name, each in content["tasks"].items()},
            RayCluster.model_validate(content["cluster"]),
            content["versions"],
        )
    except FileNotFoundError as error:
        raise AutomixerError(
            f"the Ray job finds no {path}: put AUTOMIXER_STATE on a file system that all nodes mount under one path"
        ) from error
    except (ValueError, KeyError, ValidationError) as error:
        raise AutomixerError(f"{path} is no submission of this version: install one version everywhere") from error


def submitter_of(path: Path) -> Path:
    """The lock that the submitter of a file holds until it ends."""
    return path.with_suffix(".lock")


def _types(kind: str) -> tuple[TypeAdapter[Any], TypeAdapter[Any]]:
    if kind not in KINDS:
        raise AutomixerError(f"there is no kind of job {kind!r}; there are {', '.join(KINDS)}")
    module, task = KINDS[kind]
    found = import_module(module)
    return TypeAdapter(getattr(found, kind)), TypeAdapter(str if task is None else getattr(found, task))
