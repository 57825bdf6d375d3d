"""A Ray cluster of several nodes in this machine, for tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SMALL = {"object_store_memory": 80 * 1024**2}
RUNNING: Any = None
"""A cluster that is there already and stays, to save a developer the minute of its start."""


def require_ray(*beside: str) -> None:
    """Skip the module where Ray, or what is named, is not installed; not for `make test-ray`, which asks for them."""
    for module in ("ray", *beside):
        if "AUTOMIXER_REQUIRE_RAY" not in os.environ:
            pytest.importorskip(module, reason=f"{module} is not installed: make test-ray")


@contextmanager
def two_nodes() -> Iterator[Any]:
    """A head without CPUs and two nodes of one; this process has joined."""
    import ray  # pyright: ignore[reportMissingImports]
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    if RUNNING is not None:
        yield RUNNING
        return
    head = {"num_cpus": 0, "include_dashboard": False, "no_monitor": True, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args=head | SMALL)
    for _ in range(2):
        cluster.add_node(num_cpus=1, **SMALL)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@contextmanager
def job_server() -> Iterator[str]:
    """The URL of the job server of a cluster of one node with two CPUs; this process has not joined."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    ports = {"dashboard_port": free_port(), "dashboard_agent_listen_port": free_port()}
    head = {"num_cpus": 2, "include_dashboard": True, "no_monitor": True} | ports
    cluster = Cluster(initialize_head=True, head_node_args=head | SMALL)
    try:
        yield f"http://{cluster.webui_url}"
    finally:
        cluster.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
