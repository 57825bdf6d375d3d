"""How many tokens are padding, and what running without any saves."""

from __future__ import annotations

import argparse

import numpy as np

from automixer_assets.influence import Backend, PassOptions, fit_query
from automixer_assets.influence.batches import Document, padding_share, plan_by_length, windows_of
from automixer_assets.influence.memory import BATCH_TOKENS
from automixer_assets.influence.score import compute_scores
from benchmarks.measuring import (
    CONTEXT,
    MEDIAN_TOKENS,
    documents_of,
    model_of,
    paired_seconds,
    ratio,
    validation_of,
    web_lengths,
)


def padding(options: argparse.Namespace) -> None:
    """Share of padding by batches and shard size; CPU time of packed over padded batches of the same documents."""
    print("| documents | in order of arrival, batches of 8 | sorted by length | packed |")
    print("|---|---|---|---|")
    for n_documents in (100, 1000, 10_000):
        lengths = web_lengths(n_documents * MEDIAN_TOKENS * 2)[:n_documents]
        documents = [Document(np.zeros(length, dtype=np.int64), None, 1.0) for length in lengths]
        arrival = [
            [windows_of(i, length, CONTEXT)[0] for i, length in enumerate(lengths[start : start + 8])]
            for start in range(0, n_documents, 8)
        ]
        shares = [padding_share(arrival), padding_share(plan_by_length(documents, CONTEXT, BATCH_TOKENS, packed=False))]
        print(f"| {n_documents} | {' | '.join(f'{share:.1%}' for share in [*shares, 0.0])} |")
    print("\n| body | documents | packed / padded |")
    print("|---|---|---|")
    for kind in ("web text", "64 tokens", "20 to 100 tokens"):
        lengths = {
            "web text": web_lengths(4 * options.tokens),
            "64 tokens": [64] * (options.tokens // 64),
            "20 to 100 tokens": np.random.default_rng(0).integers(20, 101, options.tokens // 60).tolist(),
        }[kind]
        print(f"| 5M | {kind}, {len(lengths)} | {_packed_over_padded(lengths, options.rounds)} |", flush=True)


def _packed_over_padded(lengths: list[int], rounds: int) -> str:
    model, texts = model_of("5M", 4096), documents_of(lengths, 4096)
    query = fit_query(model, validation_of(1, 4096), [], curvature="identity")

    def score(packed: bool) -> None:
        compute_scores(
            model,
            texts,
            query,
            PassOptions(backend=Backend(packed=packed)),
            on_progress=None,
            name="document {}".format,
        )

    seconds = paired_seconds({"packed": lambda: score(True), "padded": lambda: score(False)}, rounds)
    return ratio(seconds["packed"], seconds["padded"])
