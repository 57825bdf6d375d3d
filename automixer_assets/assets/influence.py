"""Influence assets, one chain per proxy: the query at a checkpoint, and the scores of a snapshot at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.checks import check_finite
from automixer_assets.corpus.reference import read_reference_sample
from automixer_assets.corpus.shards import TokenShard, open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import KERNEL_VERSION
from automixer_assets.lake import SCRATCH, Artifact
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Plan, Scope, lake_asset
from automixer_assets.pages.influence import show_checkpoint_influence, show_influence_query
from automixer_assets.partitions import checkpoint_by_snapshot, checkpoints_of
from automixer_assets.progress import Progress
from automixer_assets.settings import Settings

if TYPE_CHECKING:
    from automixer_assets.influence.copies import ScoreShards
    from automixer_assets.influence.score import OnProgress

LAYERS = ("embedding", "head")
BATCH_TOKENS = 4096
"""Padded tokens per forward pass; part of the digest, since bytes are reproducible for a fixed batch plan only."""


def influence_assets(proxy: str) -> list[LakeAsset]:
    """The influence chain of one proxy, keys prefixed with its name."""
    group = f"{proxy}_influence".replace("-", "_").replace(".", "_")
    return [
        lake_asset(
            asset=f"{proxy}/influence_query",
            group=group,
            kinds={"torch", "safetensors"},
            code=KERNEL_VERSION,
            plan=_plan_influence_query(proxy),
            partitions_def=checkpoints_of(proxy),
            deps=[f"{proxy}/proxy_checkpoints", "validation_items", "reference_sample"],
            pool="accelerator",
        ),
        lake_asset(
            asset=f"{proxy}/checkpoint_influence",
            group=group,
            kinds={"torch", "parquet"},
            code=KERNEL_VERSION,
            plan=_plan_checkpoint_influence(proxy),
            partitions_def=checkpoint_by_snapshot(proxy),
            deps=[f"{proxy}/influence_query", f"{proxy}/proxy_checkpoints", "tokenized_corpus"],
            checks=[Check("finite_scores", "No document has a NaN or infinite score or loss.", check_finite)],
            pool="accelerator",
        ),
    ]


def query_directions(settings: Settings, proxy: str) -> list[tuple[str, str]]:
    """(curvature, query text) pairs that live recipes of the proxy ask for: all are scored in one pass."""
    return sorted(
        {(recipe.curvature, recipe.query) for recipe in settings.recipes_of(proxy).values() if recipe.uses_checkpoints}
    )


def scores_slice(settings: Settings) -> object:
    """What of the settings determines scores beside what they are made from."""
    half = settings.scoring.half
    return BATCH_TOKENS if half is None else [BATCH_TOKENS, half]


def _plan_influence_query(proxy: str) -> Plan:
    def plan_influence_query(scope: Scope) -> Build:
        """What does this checkpoint want to learn for each task, and how strongly?

        Per task the mean gradient of its items through the recipe's curvature (paper, section 4: DataInf's).
        """
        checkpoint = scope.pin(f"{proxy}/proxy_checkpoints", scope.key)
        items, sample = scope.pin("validation_items"), scope.pin("reference_sample")
        directions = query_directions(scope.settings, proxy)

        def write(out: Path) -> None:
            _write_query(scope, directions, checkpoint.path, items.path, sample.path, out)

        return scope.build(write, show_influence_query, settings=[directions, LAYERS, BATCH_TOKENS])

    return plan_influence_query


def _write_query(
    scope: Scope, directions: list[tuple[str, str]], checkpoint: Path, items: Path, sample: Path, out: Path
) -> None:
    from automixer_assets.influence import fit_query, merge_queries, model_digest, score_documents, tokens_of_fit
    from automixer_assets.proxy.model import load_model
    from automixer_assets.proxy.tokenizer import tokenizer_digest

    model, reference = load_model(checkpoint), read_reference_sample(sample)
    tasks = {curvature: _validation(items, directions, curvature) for curvature in sorted({c for c, _ in directions})}
    total = sum(tokens_of_fit(validation, reference, curvature) for curvature, validation in tasks.items())
    queries = {}
    with scope.progress(total, "tokens") as progress:
        for curvature, validation in tasks.items():
            scope.log(
                f"{scope.name}: fitting {len(validation)} {curvature} directions "
                f"on {len(reference)} reference documents"
            )
            queries[curvature] = fit_query(
                model,
                validation,
                reference,
                layers=LAYERS,
                curvature=curvature,
                batch_tokens=BATCH_TOKENS,
                on_progress=advancing(progress),
            )
    query = merge_queries(queries)
    query.save(out, model_digest=model_digest(checkpoint), tokenizer_digest=tokenizer_digest(checkpoint))
    scores: Any = pl.from_arrow(score_documents(model, documents=reference, query=query, batch_tokens=BATCH_TOKENS))
    scores.write_parquet(out / "reference_scores.parquet")


def _validation(
    items: Path, directions: list[tuple[str, str]], curvature: str
) -> dict[str, list[tuple[list[int], list[bool]]]]:
    """The validation items of every query text that some recipe wants under this curvature, by TEXT_TASK."""
    return {
        f"{text}_{task}": pairs
        for asked, text in directions
        if asked == curvature
        for task, pairs in read_gradient_items(items, text).items()
    }


def advancing(progress: Progress) -> Callable[[int, int], None]:
    """Translate "so many of this part's tokens are done" into steps of the whole."""
    begun = progress.done
    return lambda done, _: progress.advance(begun + done - progress.done)


def read_gradient_items(folder: Path, text: str) -> dict[str, list[tuple[list[int], list[bool]]]]:
    """Per task the (token_ids, loss_mask) pairs that make the query; `text` is `sequence` or `answer`."""
    items = pl.read_parquet(folder / "gradient_items.parquet")
    return {
        str(task): list(zip(group["token_ids"].to_list(), group[f"{text}_mask"].to_list(), strict=True))
        for (task,), group in items.group_by("task", maintain_order=True)
    }


def _plan_checkpoint_influence(proxy: str) -> Plan:
    def plan_checkpoint_influence(scope: Scope) -> Build:
        """Which documents of this snapshot help at this checkpoint, and by how much?

        One row per document and one column per direction, in the paper's sign: negative lowers validation loss.
        """
        checkpoint_key, snapshot = scope.keys
        checkpoint = scope.pin(f"{proxy}/proxy_checkpoints", checkpoint_key)
        query, corpus = scope.pin(f"{proxy}/influence_query", checkpoint_key), scope.pin("tokenized_corpus", snapshot)

        def write(out: Path) -> None:
            _score_snapshot(scope, checkpoint.path, query.path, corpus.by_file, out)

        def show(artifact: Artifact) -> Metadata:
            return show_checkpoint_influence(artifact, corpus, checkpoint)

        return scope.build(write, show, settings=scores_slice(scope.settings), resumable=True)

    return plan_checkpoint_influence


def _score_snapshot(scope: Scope, checkpoint: Path, query_folder: Path, corpus: Path, out: Path) -> None:
    """Score shard by shard, exact copies once; what a killed pass finished, from the same inputs, is not done again."""
    from automixer_assets.influence.copies import score_distinct_with
    from automixer_assets.proxy.tokenizer import tokenizer_digest

    score = _launched(scope.settings, checkpoint, query_folder, scope.log)
    snapshot = open_tokenized(corpus)
    if snapshot.tokenizer_digest != tokenizer_digest(checkpoint):
        raise AutomixerError(
            f"{corpus} was tokenised with another tokenizer than checkpoint {checkpoint} uses: "
            "materialise tokenized_corpus again"
        )
    total = sum(int(shard.documents["n_tokens"].sum()) for shard in snapshot.shards)
    with scope.progress(total, "tokens") as progress:
        score_distinct_with(
            score, snapshot.shards, out, scratch=out / SCRATCH / "distinct", on_progress=advancing(progress)
        )


def _launched(settings: Settings, checkpoint: Path, query_folder: Path, log: Callable[[str], None]) -> ScoreShards:
    """What scores shards where the settings say: in this process, or on Ray."""
    import torch

    from automixer_assets.influence import Backend, InfluenceQuery, PassOptions, model_digest, score_shards
    from automixer_assets.launch.scoring import ScoringJob, score_shards_on_ray
    from automixer_assets.proxy.model import load_model
    from automixer_assets.proxy.tokenizer import tokenizer_digest

    digests, half = (model_digest(checkpoint), tokenizer_digest(checkpoint)), settings.scoring.half
    options = PassOptions(batch_tokens=BATCH_TOKENS, backend=None if half is None else Backend(dtype=half))
    query = InfluenceQuery.load(query_folder, model_digest=digests[0], tokenizer_digest=digests[1])
    if settings.launchers.scoring == "ray":
        cluster = settings.launchers.ray
        device, threads = "cuda" if cluster.gpus_per_worker else "cpu", torch.get_num_threads()

        def score_on_ray(shards: Sequence[TokenShard], folder: Path, report: OnProgress) -> None:
            job = ScoringJob(checkpoint, query_folder, folder, *digests, options, device, threads)
            score_shards_on_ray(job, shards, cluster, on_progress=report, log=log)

        return score_on_ray
    model = load_model(checkpoint)

    def score(shards: Sequence[TokenShard], folder: Path, report: OnProgress) -> None:
        score_shards(model, shards, query, folder, model_digest=digests[0], options=options, on_progress=report)

    return score
