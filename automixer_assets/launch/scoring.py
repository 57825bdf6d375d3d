"""Score a snapshot's shards on Ray: each worker holds model and query, shards come and go through files."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.influence.query import InfluenceQuery, model_digest
from automixer_assets.influence.score import OnProgress, PassOptions
from automixer_assets.influence.shards import score_shards
from automixer_assets.launch.job import Log, shard_tasks
from automixer_assets.launch.pool import run_on_ray
from automixer_assets.settings.launchers import RayCluster


@dataclass(frozen=True)
class ScoringJob:
    """The local pass over single shards: claim, completion marker and bytes are the same.

    All paths must be reachable from every node under the same name.
    """

    checkpoint: Path
    query: Path
    folder: Path
    model_digest: str
    tokenizer_digest: str
    options: PassOptions
    device: str = "cpu"
    threads: int = 1
    """Torch's, as in the driver: on a CPU sums in another number of threads end in other bits."""

    def open(self) -> Callable[[TokenShard], None]:
        import torch

        from automixer_assets.proxy.model import load_model

        if not self.checkpoint.is_dir() or model_digest(self.checkpoint) != self.model_digest:
            raise AutomixerError(
                f"the Ray worker on {socket.gethostname()} finds no checkpoint {self.checkpoint} with the driver's "
                "weights: put the lake on a file system that all nodes mount under one path"
            )
        torch.set_num_threads(self.threads)
        model = load_model(self.checkpoint)
        model.to(self.device)  # pyright: ignore[reportArgumentType]: its stub takes a device object only
        query = InfluenceQuery.load(self.query, model_digest=self.model_digest, tokenizer_digest=self.tokenizer_digest)

        def score(shard: TokenShard) -> None:
            score_shards(model, [shard], query, self.folder, model_digest=self.model_digest, options=self.options)

        return score


def score_shards_on_ray(
    job: ScoringJob, shards: Sequence[TokenShard], cluster: RayCluster, *, on_progress: OnProgress, log: Log
) -> None:
    """Score shards as `score_shards` does; those that stand there already are not scored again.

    Args:
        on_progress: called with (tokens done, tokens in all) after every shard.

    Raises:
        AutomixerError: as `run_on_ray`.
    """
    tokens = {shard.name: int(shard.documents["n_tokens"].sum()) for shard in shards}
    done = 0

    def count(name: str) -> None:
        nonlocal done
        done += tokens[name]
        on_progress(done, sum(tokens.values()))

    run_on_ray(job, shard_tasks(shards), cluster, on_done=count, log=log)
