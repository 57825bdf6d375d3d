"""Joint influence a shard at a time, wherever: a row depends on its own scores and on what the scorer holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.launch.job import RunTasks, make_once, require_folder, run_here, shard_tasks
from automixer_assets.scorers import Scorer, write_scored_shard


@dataclass(frozen=True)
class JointJob:
    """Write the joint_influence files of shards into `folder`; those that stand there already stay.

    The scorer holds paths and frozen constants. All paths must be reachable from every node under the same name.
    """

    scorer: Scorer
    folder: Path

    def open(self) -> Callable[[TokenShard], None]:
        require_folder(self.folder)
        return self._write

    def _write(self, shard: TokenShard) -> None:
        path = self.folder / f"{shard.name}.parquet"
        make_once(path, lambda: write_scored_shard(self.scorer, shard, path))


def write_joint_shards(
    job: JointJob, shards: Sequence[TokenShard], *, on_progress: Callable[[int], None], run: RunTasks = run_here
) -> None:
    """Joint influence of all shards; `on_progress(1)` after each.

    Raises:
        AutomixerError: as `write_scored_shard`, and what `run` raises.
    """
    run(job, shard_tasks(shards), lambda name: on_progress(1))
