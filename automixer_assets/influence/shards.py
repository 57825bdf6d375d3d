"""Score all shards of a snapshot, alone or together with other processes, each shard once.

Every process makes the same call on the same folder; a shard belongs to whoever claims it first. A process returns
when all shards are done, whoever did them, so that what follows may read the whole folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.influence.memory import batch_tokens_on
from automixer_assets.influence.query import KERNEL_VERSION, InfluenceQuery
from automixer_assets.influence.score import OnProgress, PassOptions
from automixer_assets.influence.shard import ScoreMarker, ShardScores, shard_digest, write_scores
from automixer_assets.locks import claimed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POLL_SECONDS = 0.5
"""Pause when every shard that is left belongs to another process."""


def score_shards(
    model: PreTrainedModel,
    shards: Sequence[TokenShard],
    query: InfluenceQuery,
    folder: Path,
    *,
    model_digest: str,
    options: PassOptions | None = None,
    on_progress: OnProgress | None = None,
) -> list[ShardScores]:
    """Score shards into `folder`, one `<shard>.parquet` each (paper, section 4); see `score_shard` for the columns.

    A file that is there already counts as done if its metadata names the same query, model, shard, options and kernel
    version; else it is made again. A killed pass therefore loses the shard it was at, and its files end up with the
    bytes of an undisturbed one.

    Args:
        model_digest: names the model's weights in the files, as `query.model_digest(folder)` gives it.
        on_progress: called with (tokens done by anyone, tokens in all).

    Returns:
        What this process itself wrote, in the order of `shards`.

    Raises:
        AutomixerError: as `score_documents`, naming doc_id and shard; shards done by then stay.
    """
    work = _Work(model, query, folder, _resolved(model, options or PassOptions()), query.digest(), model_digest)
    tokens = {shard.name: int(shard.documents["n_tokens"].sum()) for shard in shards}
    report = on_progress or (lambda done, total: None)
    done, total = 0, sum(tokens.values())
    waiting, written = {shard.name: shard for shard in shards}, {}
    while waiting:
        busy = {}
        for name, shard in waiting.items():
            outcome = work.shard(shard, lambda now, _, done=done: report(done + now, total))
            if outcome == "busy":
                busy[name] = shard
                continue
            if isinstance(outcome, ShardScores):
                written[name] = outcome
            done += tokens[name]
            report(done, total)
        if len(busy) == len(waiting):
            time.sleep(POLL_SECONDS)
        waiting = busy
    return [written[shard.name] for shard in shards if shard.name in written]


@dataclass(frozen=True)
class _Work:
    """One pass over a folder."""

    model: PreTrainedModel
    query: InfluenceQuery
    folder: Path
    options: PassOptions
    query_digest: str
    model_digest: str
    markers: dict[str, ScoreMarker] = field(default_factory=dict)  # by shard name: a digest reads the whole shard

    def shard(self, shard: TokenShard, on_progress: Callable[[int, int], None]) -> ShardScores | str:
        """What was written, "done" if it stands already, or "busy" if another process is at it."""
        path, marker = self.folder / f"{shard.name}.parquet", self._marker(shard)
        if marker.stands_in(path):
            return "done"
        with claimed(path) as mine:
            if not mine:
                return "busy"
            if marker.stands_in(path):  # finished between the look and the claim
                return "done"
            return write_scores(self.model, shard, self.query, path, self.options, on_progress, marker)

    def _marker(self, shard: TokenShard) -> ScoreMarker:
        if shard.name not in self.markers:
            options = json.dumps(asdict(self.options), sort_keys=True)
            self.markers[shard.name] = ScoreMarker(
                self.query_digest, self.model_digest, shard_digest(shard), options, KERNEL_VERSION
            )
        return self.markers[shard.name]


def _resolved(model: PreTrainedModel, options: PassOptions) -> PassOptions:
    """The batch plan is part of what decides the bytes, so it is written down as a number."""
    return replace(options, batch_tokens=batch_tokens_on(model.device, options.batch_tokens))
