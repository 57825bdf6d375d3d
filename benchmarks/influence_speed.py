"""Cost of scoring over its floor: python -m benchmarks.influence_speed

The floor is one forward and one backward that computes activation gradients only, on the same batches, through the
model's own head: all logits of a batch at once. Scoring forms them in chunks, so where the vocabulary outweighs the
body it can come out below 1. Floor and
scoring alternate, so that a drifting machine slows both; the median of the paired CPU-time ratios is reported with its
range. One torch thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from automixer_assets.influence import fit_query, score_documents
from automixer_assets.proxy.model import build_model
from automixer_assets.settings import Architecture

SIZES = {
    "demo 0.4M": Architecture(
        hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    ),
    "5M body": Architecture(
        hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2
    ),
}


def main() -> None:
    """Print a Markdown table: model, vocabulary, documents, directions, ratio to the floor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="paired runs per row")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens scored per run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | vocabulary | tokens per document | directions | x floor, median [min, max] |")
    print("|---|---|---|---|---|")
    for (name, architecture), vocabulary, length in (
        (item, vocabulary, length)
        for item in SIZES.items()
        for vocabulary, length in ((1024, 64), (4096, 64), (4096, 512))
    ):
        for directions in (1, 8):
            ratios = measure(architecture, vocabulary, length, directions, options.tokens // length, options.pairs)
            spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            print(f"| {name} | {vocabulary} | {length} | {directions} | {spread} |", flush=True)


def measure(
    architecture: Architecture, vocabulary: int, length: int, directions: int, n_documents: int, pairs: int
) -> list[float]:
    """Paired ratios of CPU time, scoring over floor."""
    model = build_model(architecture, vocabulary, length, seed=0)
    generator = np.random.default_rng(0)
    documents = [generator.integers(0, vocabulary, length).tolist() for _ in range(n_documents)]
    items = [(document, [True] * length) for document in documents[:8]]
    query = fit_query(model, {f"task_{i}": items[i : i + 1] for i in range(directions)}, documents[:16])
    batch = 4096 // length

    def score() -> None:
        score_documents(model, documents, query)

    def floor() -> None:
        for start in range(0, n_documents, batch):
            activation_gradients(model, torch.tensor(documents[start : start + batch]))

    score()
    floor()
    return [cpu_seconds(score) / cpu_seconds(floor) for _ in range(pairs)]


def activation_gradients(model, ids: torch.Tensor) -> None:
    """Forward, loss, and the gradient at the input embeddings, without any weight gradient."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    embeddings = model.get_input_embeddings()(ids).requires_grad_(True)  # [B, T, d]
    logits = model(inputs_embeds=embeddings, use_cache=False).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    torch.autograd.grad(loss, embeddings)


def cpu_seconds(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
