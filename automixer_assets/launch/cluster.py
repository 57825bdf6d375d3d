"""Reach a Ray cluster, or start one here; see that it still answers, and that its workers run what the driver runs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import automixer_assets
from automixer_assets.errors import AutomixerError
from automixer_assets.out_of_memory import first_line
from automixer_assets.settings.launchers import RayCluster

PACKAGES = ("duckdb", "numpy", "polars", "pyarrow", "tokenizers", "torch", "transformers")
"""Packages that, beside this one, decide the bytes of a result."""
OBJECT_STORE_BYTES = 100 * 1024**2
"""Of a cluster started here: shards go through files, so little passes through it."""
ANSWER_SECONDS = 5.0
"""Time for one connection to a cluster's head."""
SILENCE_SECONDS = 20.0
"""A head that takes no connection for so long is gone. Well below the minute after which Ray ends the driver."""


class Head:
    """The head of the cluster that this process has joined."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._heard = self._asked = time.monotonic()

    def require_answer(self) -> None:
        """Ask now and then; AutomixerError when the head has not answered for `SILENCE_SECONDS`."""
        now = time.monotonic()
        if now - self._asked < ANSWER_SECONDS:
            return
        if _answers(self.address):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENCE_SECONDS:
            raise AutomixerError(
                f"the head of the Ray cluster at {self.address} has not answered for {SILENCE_SECONDS:g} s: start the "
                "cluster and run again, what is finished is kept"
            )
        self._asked = time.monotonic()


def load_ray() -> Any:
    """The module; the only place that imports it, since most installs are without.

    Raises:
        AutomixerError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AutomixerError(
            "settings.launchers asks for Ray, which is not installed: pip install 'automixer_assets[ray]'"
        ) from error
    return ray


@contextmanager
def connected(cluster: RayCluster) -> Iterator[Head]:
    """Join the cluster of the settings, or whatever this process has joined already.

    Raises:
        AutomixerError: Ray is not installed, no cluster answers at the address, or none could be started here.
    """
    ray = load_ray()
    if cluster.address is not None and ":" in cluster.address and not _answers(cluster.address):
        raise AutomixerError(_unreachable(cluster.address, f"no connection within {ANSWER_SECONDS:g} s"))
    if ray.is_initialized():
        yield Head(ray.get_runtime_context().gcs_address)
        return
    try:
        ray.init(**_options(cluster))
    except Exception as error:  # Ray raises a plain Exception when a node does not start in time
        if cluster.address is None:
            raise AutomixerError(f"no Ray cluster could be started in this machine ({first_line(error)})") from error
        raise AutomixerError(_unreachable(cluster.address, first_line(error))) from error
    try:
        yield Head(ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


def _options(cluster: RayCluster) -> dict[str, Any]:
    """Of `ray.init`; a cluster started here has a CPU to spare beyond its workers'."""
    if cluster.address is not None:
        return {"address": cluster.address, "log_to_driver": False}
    return {
        "address": "local",
        "num_cpus": int(cluster.workers * cluster.cpus_per_worker) + 1,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "log_to_driver": False,
    }


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _unreachable(address: str, reason: str) -> str:
    return f"no Ray cluster answers at launchers.ray.address {address!r} ({reason}): start it, or correct the address"


def free_resources() -> str:
    """What the cluster has, in words, e.g. `0 of 2 CPUs and 1 of 1 GPUs are free on 3 nodes`."""
    ray = load_ray()
    free, whole = ray.available_resources(), ray.cluster_resources()
    counts = [f"{free.get(kind, 0):g} of {whole.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU")]
    return f"{' and '.join(counts)} are free on {sum(node['Alive'] for node in ray.nodes())} nodes"


def versions() -> dict[str, str]:
    """What decides bytes: this package, by its source, and the versions of those beside it."""
    found = {"automixer-assets": f"{automixer_assets.__version__} (source {_source_digest()})"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "(not installed)"
    return found


def _source_digest() -> str:
    """Two installs of one version can differ: one of them may be a checkout."""
    folder, digest = Path(automixer_assets.__file__).parent, hashlib.sha256()
    for path in sorted(path for suffix in ("py", "sql") for path in folder.rglob(f"*.{suffix}")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def require_versions(drivers: Mapping[str, str], node: str) -> None:
    """Refuse, on a worker, to run with other packages than the driver's."""
    here = versions()
    different = [
        f"{name} {here[name]} where the driver has {drivers[name]}" for name in here if here[name] != drivers[name]
    ]
    if different:
        raise AutomixerError(
            f"the Ray worker on {node} has {', '.join(different)}: install the driver's versions there"
        )
