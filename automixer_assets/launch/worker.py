"""The other side: a process of the cluster that loads what a job needs, once, and is then handed tasks."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from automixer_assets.launch.cluster import require_versions
from automixer_assets.launch.job import Job


class Worker:
    """An actor; its methods raise what the job raises."""

    def __init__(self, job: Job, drivers_versions: Mapping[str, str]) -> None:
        self._job, self._drivers_versions = job, drivers_versions

    def ready(self) -> str:
        """Load the job; returns the node's name. Not in `__init__`, of whose errors Ray keeps nothing but a text."""
        node = socket.gethostname()
        require_versions(self._drivers_versions, node)
        self._run = self._job.open()
        return node

    def run(self, task: Any) -> None:
        self._run(task)
