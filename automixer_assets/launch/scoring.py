"""Score a snapshot's shards on Ray: an actor per worker holds model and query, shards come and go through files."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.influence.query import InfluenceQuery, model_digest
from automixer_assets.influence.score import OnProgress, PassOptions
from automixer_assets.influence.shards import score_shards
from automixer_assets.launch.cluster import check_versions, connect, versions
from automixer_assets.launch.pool import ActorPool
from automixer_assets.settings.launchers import RayCluster


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs to know; all paths must be reachable from every node under the same name."""

    checkpoint: Path
    query: Path
    model_digest: str
    tokenizer_digest: str
    options: PassOptions
    versions: dict[str, str]
    on_gpu: bool


class ScoringWorker:
    """One process with the model and the query of a job."""

    def __init__(self, job: ScoringJob) -> None:
        from automixer_assets.proxy.model import load_model

        check_versions(job.versions, socket.gethostname())
        if not job.checkpoint.is_dir() or model_digest(job.checkpoint) != job.model_digest:
            raise AutomixerError(
                f"the Ray worker on {socket.gethostname()} finds no checkpoint {job.checkpoint} with the driver's "
                "weights: put the lake on a file system that all nodes mount under one path"
            )
        self.job, self.model = job, load_model(job.checkpoint)
        if job.on_gpu:
            self.model.to("cuda")  # pyright: ignore[reportArgumentType]: its stub takes a device object only
        self.query = InfluenceQuery.load(
            job.query, model_digest=job.model_digest, tokenizer_digest=job.tokenizer_digest
        )

    def ready(self) -> None:
        """Returns once the model is loaded."""

    def score(self, shard: TokenShard, folder: Path) -> None:
        """The local pass over one shard: claim, completion marker and bytes are the same."""
        score_shards(
            self.model,
            [shard],
            self.query,
            folder,
            model_digest=self.job.model_digest,
            options=self.job.options,
        )


def score_shards_on_ray(
    job: ScoringJob, shards: Sequence[TokenShard], folder: Path, cluster: RayCluster, on_progress: OnProgress
) -> None:
    """Score shards into `folder` as `score_shards` does; shards that stand there already are not scored again.

    Args:
        on_progress: called with (tokens done, tokens in all) after every shard.

    Raises:
        AutomixerError: as `ActorPool.run`; or, when all other shards are done, naming those that failed every time.
    """
    tokens = {shard.name: int(shard.documents["n_tokens"].sum()) for shard in shards}
    done = 0

    def count(name: str) -> None:
        nonlocal done
        done += tokens[name]
        on_progress(done, sum(tokens.values()))

    connect(cluster)
    tasks = {shard.name: replace(shard) for shard in shards}  # copies, for a shard keeps the table it has read
    pool = ActorPool(
        create=lambda: _worker_class(cluster).remote(job),
        submit=lambda worker, shard: worker.score.remote(shard, folder),
        cluster=cluster,
    )
    failed = pool.run(tasks, count)
    if failed:
        listed = "; ".join(f"{name}: {message}" for name, message in sorted(failed.items()))
        raise AutomixerError(
            f"{len(failed)} of {len(shards)} shards failed {cluster.attempts} times each, the others are done "
            f"and stay: {listed}"
        )


def scoring_job(
    checkpoint: Path, query: Path, digests: tuple[str, str], options: PassOptions, gpus: float
) -> ScoringJob:
    """The job of this driver; `digests` are the model's and the tokenizer's."""
    return ScoringJob(checkpoint, query, *digests, options, versions(), gpus > 0)


def _worker_class(cluster: RayCluster) -> Any:
    import ray

    return ray.remote(
        num_cpus=cluster.cpus_per_worker, num_gpus=cluster.gpus_per_worker, max_restarts=0, max_task_retries=0
    )(ScoringWorker)
