"""A Ray cluster of several nodes in this machine, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SMALL = {"object_store_memory": 80 * 1024**2}
RUNNING: Any = None
"""A cluster that is there already and stays, to save a developer the minute of its start."""


def require_ray() -> None:
    """Skip the module where Ray is not installed, except for `make test-ray`, which asks for it."""
    if "AUTOMIXER_REQUIRE_RAY" not in os.environ:
        pytest.importorskip("ray", reason="Ray is not installed: make test-ray")


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
