"""A scoring pass that takes no time, and what it writes without any cluster."""

from __future__ import annotations

from pathlib import Path

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.influence import InfluenceQuery, PassOptions, fit_query, model_digest, score_shards
from automixer_assets.launch.scoring import ScoringJob
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_shards import contents, write_shard


def tiny_shards(folder: Path, count: int) -> list[TokenShard]:
    """Shards of four short documents each, in `folder`/tokens."""
    (folder / "tokens").mkdir()
    return [write_shard(folder / "tokens", i, tiny.documents([4, 9, 1, 14], seed=i)) for i in range(count)]


def tiny_job(folder: Path) -> ScoringJob:
    """A tiny model and its query, saved as the lake saves them."""
    model, checkpoint = tiny.llama().float(), folder / "checkpoint"
    model.save_pretrained(checkpoint)
    digests = (model_digest(checkpoint), "t")
    fit_query(model, tiny.tasks(), tiny.reference()).save(
        folder / "query", model_digest=digests[0], tokenizer_digest=digests[1]
    )
    return ScoringJob(checkpoint, folder / "query", folder / "ray", *digests, PassOptions(batch_tokens=40))


def expected(job: ScoringJob, shards: list[TokenShard], folder: Path) -> dict[str, bytes]:
    """The files of the local pass."""
    from automixer_assets.proxy.model import load_model

    query = InfluenceQuery.load(job.query, model_digest=job.model_digest, tokenizer_digest=job.tokenizer_digest)
    score_shards(load_model(job.checkpoint), shards, query, folder, model_digest=job.model_digest, options=job.options)
    return contents(folder)
