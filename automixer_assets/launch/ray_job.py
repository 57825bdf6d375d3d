"""Submit the driver of a stage to a cluster's job server, and follow it: one HTTP port instead of Ray's many.

dagster-ray's PipesRayJobClient submits, reads the messages and waits. What is ours: the handover file in the lake, a
watch over a server that no longer answers and a job that does not start, and one sentence for whatever ends it.
"""

from __future__ import annotations

import contextlib
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import PipesMessageHandler, PipesMessageReader

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.cluster import ANSWER_SECONDS, SILENCE_SECONDS, versions
from automixer_assets.launch.handover import Handover
from automixer_assets.launch.job import Job, Log, OnDone
from automixer_assets.launch.submitted import DONE, ERROR, USED, lock_of
from automixer_assets.locks import exclusive
from automixer_assets.out_of_memory import first_line
from automixer_assets.settings.launchers import RayCluster

if TYPE_CHECKING:
    from dagster._core.pipes.context import PipesLaunchedData

FOLDER = ".ray-jobs"
"""Of handovers, in the lake's root."""
POLL_SECONDS = 1.0
"""Between two looks at a job."""
NOT_YET = "No available agent"
"""Of the job server's answer while the agents of its nodes are starting."""
MODULE = "automixer_assets.launch.submitted"


class RayJobError(RuntimeError):
    """A job ended for a reason that is nobody's setting and that may pass."""


def run_as_ray_job(job: Job, tasks: Mapping[str, Any], cluster: RayCluster, *, on_done: OnDone, log: Log) -> None:
    """Do the tasks as `run_on_ray` does, with the driver on the cluster; called in a step of a Dagster run.

    The job's id, address and workers become metadata of the step's materialisation.

    Raises:
        AutomixerError: no job server, no start within `patience_seconds`, a server that is gone, or what the driver on
            the cluster raised.
        RayJobError: the job ended otherwise.
    """
    assert cluster.job_server is not None
    context = dg.AssetExecutionContext.get()
    server = JobServer.at(cluster.job_server)
    submission = f"automixer-{uuid.uuid4().hex[:16]}"
    path = context.resources.automixer.lake().root / FOLDER / f"{submission}.json"
    messages = Messages(tasks, on_done)
    with exclusive(lock_of(path)):
        try:
            Handover(job, tasks, cluster, versions()).save(path)
            SubmittedJob(server, submission, cluster, messages).run(context, path)
        finally:
            path.unlink(missing_ok=True)
    messages.rest_is_done()
    context.add_asset_metadata(
        {
            "Ray job": submission,
            "Ray dashboard": dg.MetadataValue.url(f"{cluster.job_server}/#/jobs/{submission}"),
            "Ray job server": cluster.job_server,
            "Ray cluster": messages.used.get("cluster"),
            "Ray workers": dg.MetadataValue.json(messages.used.get("workers", {})),
        }
    )


@dataclass
class Messages:
    """What the driver on the cluster has said so far; read in the step's own thread."""

    tasks: Mapping[str, Any]
    on_done: OnDone
    read: Callable[[], Sequence[Any]] = lambda: ()
    error: str | None = None
    used: dict[str, Any] = field(default_factory=dict)
    heard: int = 0
    done: set[str] = field(default_factory=set)

    def hear(self) -> None:
        """Take in what is new."""
        said = self.read()
        for message in said[self.heard :]:
            ((kind, value),) = message.items()
            if kind == DONE:
                self._is_done(value)
            elif kind == USED:
                self.used = value
            elif kind == ERROR:
                self.error = value
        self.heard = len(said)

    def rest_is_done(self) -> None:
        """The job has succeeded, so what was not heard of is done too: its log may have been cut off on the way."""
        for name in self.tasks:
            self._is_done(name)

    def _is_done(self, name: str) -> None:
        if name not in self.done:
            self.done.add(name)
            self.on_done(name)


class JobServer:
    """A cluster's job server, as dagster-ray asks it, that is heard from at least every `SILENCE_SECONDS`."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client = url, client
        self._heard = time.monotonic()

    @classmethod
    def at(cls, url: str) -> JobServer:
        """AutomixerError where Ray's job client is not installed here, or nothing usable answers."""
        try:
            import dagster_ray  # noqa: F401  # pyright: ignore[reportMissingImports]
            from ray.job_submission import JobSubmissionClient  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise AutomixerError(
                "launchers.ray.job_server asks for Ray and dagster-ray, which are not installed: "
                "pip install 'automixer_assets[ray]'"
            ) from error
        try:
            ask(url)
            return cls(url, JobSubmissionClient(url))
        except Exception as error:  # a plain RuntimeError for a wrong token or another kind of server
            raise AutomixerError(
                f"no Ray job server answers at launchers.ray.job_server {url!r} ({first_line(error)}): start the "
                "cluster, or correct the address (and RAY_AUTH_TOKEN, where the cluster asks for a token)"
            ) from error

    def status(self, submission: str) -> Any:
        """Of a job, asked for until there is an answer; AutomixerError after `SILENCE_SECONDS` without one."""
        while True:
            try:
                ask(self.url)
                status = self.client.get_job_status(submission)
            except OSError as error:
                if time.monotonic() - self._heard > SILENCE_SECONDS:
                    raise AutomixerError(
                        f"the Ray job server at {self.url} has not answered for {SILENCE_SECONDS:g} s "
                        f"({first_line(error)}): start the cluster and run again, what is finished is kept"
                    ) from error
                time.sleep(POLL_SECONDS)
            else:
                self._heard = time.monotonic()
                return status

    def stop(self, submission: str) -> None:
        """Stop a job if the server can still be reached; else the job ends when it misses its submitter."""
        with contextlib.suppress(Exception):
            ask(self.url)
            self.client.stop_job(submission)


def ask(url: str) -> None:
    """OSError when a server does not answer within `ANSWER_SECONDS`; Ray's own client has no time-out."""
    import requests

    requests.get(f"{url}/api/version", timeout=ANSWER_SECONDS)


def last_said(error: Exception) -> str:
    """The last line of a job's log, with which Ray's message ends, that is no message to Dagster."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("{")), type(error).__name__)


class SubmittedJob:
    """A job from its submission to its end. In the place of its client dagster-ray asks this one, once a poll."""

    def __init__(self, server: JobServer, submission: str, cluster: RayCluster, messages: Messages) -> None:
        self.server, self.submission, self.cluster, self.messages = server, submission, cluster, messages
        self._submitted = 0.0

    def run(self, context: dg.AssetExecutionContext, path: Path) -> None:
        """Return when the job has succeeded; raises as `run_as_ray_job`. Whatever ends this stops the job."""
        from dagster_ray import PipesRayJobClient, PipesRayJobMessageReader  # pyright: ignore[reportMissingImports]

        reader = StoppingReader(PipesRayJobMessageReader(), self)
        client = PipesRayJobClient(address=self.server.url, message_reader=reader, poll_interval=0)
        client.client = self
        command = [self.cluster.job_python, "-m", MODULE, str(path)]
        try:
            client.run(
                context=context,
                submit_job_params={
                    "entrypoint": shlex.join(command),
                    "entrypoint_num_cpus": 0,  # a driver waits: a CPU of its own would be one less for the workers
                    "submission_id": self.submission,
                },
            )
        except (RuntimeError, OSError) as error:
            self.messages.hear()
            if self.messages.error is not None:
                raise AutomixerError(self.messages.error) from None
            raise RayJobError(
                f"Ray job {self.submission} on {self.server.url} ended without a word of its driver: "
                f"{last_said(error)}; its log is on the cluster's dashboard"
            ) from error
        self.messages.hear()

    def submit_job(self, **parameters: Any) -> str:
        """Called once; a cluster that has just been started takes no jobs yet."""
        self._submitted = time.monotonic()
        while True:
            try:
                return self.server.client.submit_job(**parameters)
            except (RuntimeError, OSError) as error:
                if NOT_YET not in str(error) or self._is_late():
                    raise AutomixerError(f"{self.server.url} did not take a Ray job: {first_line(error)}") from error
            time.sleep(POLL_SECONDS)

    def _is_late(self) -> bool:
        return time.monotonic() - self._submitted > self.cluster.patience_seconds

    def get_address(self) -> str:
        return self.server.client.get_address()

    def get_job_info(self, submission: str) -> Any:
        return self.server.client.get_job_info(submission)

    def stop_job(self, submission: str) -> None:
        self.server.stop(submission)

    def get_job_status(self, submission: str) -> Any:
        """Called in a loop while the job is under way, so here its messages are heard and its clock is watched."""
        time.sleep(POLL_SECONDS)
        self.messages.hear()
        status = self.server.status(submission)
        if status == "PENDING" and self._is_late():
            raise AutomixerError(
                f"Ray job {submission} has not started on {self.server.url} for {self.cluster.patience_seconds:g} s: "
                "see the cluster's dashboard for what it waits for, or raise launchers.ray.patience_seconds"
            )
        return status


class StoppingReader(PipesMessageReader):
    """dagster-ray's reader of a job's log. It reads until the job has ended, so an error here must end the job."""

    def __init__(self, reader: Any, job: SubmittedJob) -> None:
        self._reader, self._job = reader, job

    @contextlib.contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[Any]:
        self._job.messages.read = handler.get_custom_messages
        with self._reader.read_messages(handler) as parameters:
            try:
                yield parameters
            except BaseException:
                self._job.server.stop(self._job.submission)
                raise

    def on_launched(self, launched_payload: PipesLaunchedData) -> None:
        self._reader.on_launched(launched_payload)

    def no_messages_debug_text(self) -> str:
        return self._reader.no_messages_debug_text()
