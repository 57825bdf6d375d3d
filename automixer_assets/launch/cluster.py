"""Reach a Ray cluster, or start one in this machine; see that its workers run what the driver runs."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.settings.launchers import RayCluster

PACKAGES = ("automixer-assets", "numpy", "polars", "pyarrow", "torch", "transformers")
"""Packages that decide the bytes of a result."""
OBJECT_STORE_BYTES = 100 * 1024**2
"""Of a cluster started here: shards go through files, so little passes through it."""


def connect(cluster: RayCluster) -> None:
    """Join the cluster of the settings; one started here has a CPU to spare beyond its workers'.

    Raises:
        AutomixerError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise AutomixerError(
            "launchers.scoring is ray, but Ray is not installed: pip install 'automixer_assets[ray]'"
        ) from error
    if ray.is_initialized():
        return
    try:
        ray.init(**_options(cluster))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise AutomixerError(
            f"no Ray cluster answers at launchers.ray.address {cluster.address!r} ({error}): start it, or correct it"
        ) from error


def _options(cluster: RayCluster) -> dict[str, Any]:
    if cluster.address is not None:
        return {"address": cluster.address, "log_to_driver": False}
    cpus = int(cluster.workers * cluster.cpus_per_worker) + 1
    return {
        "address": "local",
        "num_cpus": cpus,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "log_to_driver": False,
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide bytes."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from its source folder
            found[package] = "(not installed)"
    return found


def check_versions(drivers: dict[str, str], node: str) -> None:
    """Refuse, on a worker, to run with other packages than the driver's."""
    here = versions()
    different = [f"{name} {here[name]} (driver: {drivers[name]})" for name in PACKAGES if here[name] != drivers[name]]
    if different:
        raise AutomixerError(
            f"the Ray worker on {node} has {', '.join(different)}: install the driver's versions there"
        )
