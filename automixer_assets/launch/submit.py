"""Do a job's tasks as a Ray job: submitted through the cluster's job server, reported to Dagster through Pipes.

The one connection to the cluster is HTTP, to the address of its dashboard; the pool of workers is run by a driver on
the cluster (`__main__.py`). What is to be done travels as a file in the state folder, which all nodes mount.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.cluster import ANSWER_SECONDS, load_ray, versions
from automixer_assets.launch.job import Job, Log, OnDone
from automixer_assets.launch.submission import DONE, ERROR, Submission, submitter_of, write_submission
from automixer_assets.locks import exclusive
from automixer_assets.out_of_memory import first_line
from automixer_assets.resources import state_folder
from automixer_assets.settings.launchers import RayCluster

POLL_SECONDS = 1.0


def run_as_ray_job(job: Job, tasks: Mapping[str, Any], cluster: RayCluster, *, on_done: OnDone, log: Log) -> None:
    """Do every task of a job, by name, as `run_on_ray` does, within a Ray job of the settings' cluster.

    Raises:
        AutomixerError: no job server at the address, dagster-ray is not installed, or whatever ended the job.
    """
    _require_answer(str(cluster.jobs))
    context = dg.AssetExecutionContext.get()
    done: set[str] = set()

    def count(name: str) -> None:
        done.add(name)
        on_done(name)

    relayed = Relayed(count)
    inner = cluster.model_copy(update={"jobs": None, "address": "auto"})
    with _submitted(Submission(job, tasks, inner, versions())) as path:
        identity = _run_job(context, cluster, path, relayed)
    for name in [name for name in tasks if name not in done]:  # a line of the job's log that was lost
        on_done(name)
    context.add_asset_metadata({"Ray job": identity, "Ray dashboard": dg.MetadataValue.url(str(cluster.jobs))})
    log(f"the Ray job {identity} is done")


class Relayed:
    """What the driver reports beside its log lines; handed over as it comes."""

    def __init__(self, on_done: OnDone) -> None:
        self.error: str | None = None
        self._on_done = on_done

    def take(self, message: Mapping[str, Any]) -> None:
        if DONE in message:
            self._on_done(message[DONE])
        self.error = message.get(ERROR, self.error)


@contextmanager
def _submitted(submission: Submission) -> Iterator[Path]:
    """The file that the driver reads; while this process lives it holds the lock beside it."""
    folder = state_folder() / "cache" / "ray-jobs"
    path = folder / f"{dg.AssetExecutionContext.get().run_id}-{type(submission.job).__name__}.json"
    with exclusive(submitter_of(path)) as mine:
        if not mine:
            raise AutomixerError(f"another process works on {path}: wait for it, or end it")
        write_submission(submission, path)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _run_job(context: dg.AssetExecutionContext, cluster: RayCluster, path: Path, relayed: Relayed) -> str:
    """Run the driver to its end; returns the job's id."""
    client = _client(cluster, relayed)
    entrypoint = shlex.join([cluster.python, "-m", "automixer_assets.launch", str(path)])
    try:
        # No CPUs for the driver: it only hands out shards, and one that it holds would be missing for a worker.
        ended = client.run(context=context, submit_job_params={"entrypoint": entrypoint, "entrypoint_num_cpus": 0})
    except dg.DagsterExecutionInterruptedError:
        raise
    except Exception as error:  # Ray and its HTTP client raise RuntimeError, ConnectionError and others
        raise AutomixerError(relayed.error or _ended(cluster, error)) from error
    return str(ended.metadata["Ray Job ID"])


def _ended(cluster: RayCluster, error: Exception) -> str:
    reason = next((line for line in str(error).splitlines() if "Message:" not in line and line.strip()), "")
    return (
        f"the Ray job at launchers.ray.jobs {cluster.jobs!r} ended without a word of its own ({type(error).__name__}: "
        f"{reason or first_line(error)}): its log on the dashboard says more; run again, what is finished is kept"
    )


def _client(cluster: RayCluster, relayed: Relayed) -> Any:
    """dagster-ray's client, whose reader of the job's log hands our messages on at once, not only at the end."""
    load_ray()
    try:
        from dagster_ray import PipesRayJobClient  # pyright: ignore[reportMissingImports]
        from dagster_ray.core.pipes import PipesRayJobMessageReader  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AutomixerError(
            "settings.launchers.ray.jobs asks for dagster-ray, which is not installed: "
            "pip install 'automixer_assets[ray]'"
        ) from error

    class Reader(PipesRayJobMessageReader):
        def read_messages(self, handler: dg.PipesMessageHandler) -> Any:
            return super().read_messages(_Handler(handler, relayed.take))

    return PipesRayJobClient(address=cluster.jobs, message_reader=Reader(), poll_interval=POLL_SECONDS)


class _Handler:
    """Pipes' handler, but for custom messages, which it would keep until the session ends."""

    def __init__(self, handler: dg.PipesMessageHandler, take: Callable[[Mapping[str, Any]], None]) -> None:
        self._handler, self._take = handler, take

    def handle_message(self, message: Mapping[str, Any]) -> None:
        if message["method"] == "report_custom_message":
            self._take(message["params"]["payload"])
        else:
            self._handler.handle_message(message)  # pyright: ignore[reportArgumentType]: a message, as Pipes read it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


def _require_answer(address: str) -> None:
    parts = urlsplit(address)
    try:
        with socket.create_connection((str(parts.hostname), parts.port or 80), timeout=ANSWER_SECONDS):
            return
    except OSError as error:
        raise AutomixerError(
            f"no Ray job server answers at launchers.ray.jobs {address!r} within {ANSWER_SECONDS:g} s "
            f"({first_line(error)}): start the cluster with its dashboard (`pip install 'ray[default]'`), "
            "or correct the address"
        ) from error
