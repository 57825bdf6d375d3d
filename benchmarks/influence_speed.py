"""What influence costs beyond what any gradient method must pay: python -m benchmarks.influence_speed

Sections, all by default (`--sections`): `scoring` and `fit` over the floor, `padding`, `precision`, `memory`, `gpu`.

The floor is one forward and one backward that computes activation gradients only (`floor.py`), on the same packed
batches, the output layer in chunks by hand. The physical floor is one product of the head's size more: a gradient of
the output layer cannot be contracted for less. So beside each ratio stand the one over floor + product, and the one
that floating-point operations predict for floor + product over floor: where the vocabulary outweighs the body, no
program comes below that.

All runs of a row alternate; a ratio is the median of paired CPU times with its 95 % interval by order statistics. One
torch thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from automixer_assets.influence import fit_query, score_documents
from automixer_assets.influence.batches import plain_document, plan_by_document, plan_by_length
from automixer_assets.influence.language_model import opened
from automixer_assets.influence.memory import BATCH_TOKENS
from automixer_assets.influence.reference_sample import ReferenceSample
from benchmarks import influence_gpu, influence_memory, influence_precision
from benchmarks.floor import run_floor
from benchmarks.measuring import (
    CONTEXT,
    SIZES,
    documents_of,
    floor_operations,
    head_operations,
    model_of,
    paired_seconds,
    ratio,
    validation_of,
    web_lengths,
)
from benchmarks.padding import padding

VOCABULARIES = (4096, 32768)
M = 8


def main() -> None:
    """Print one Markdown table per section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections: dict[str, Callable[[argparse.Namespace], None]] = {
        "scoring": scoring,
        "fit": fit,
        "padding": padding,
        "precision": influence_precision.precision,
        "memory": influence_memory.memory,
        "gpu": influence_gpu.gpu,
    }
    parser.add_argument("--sections", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--vocabularies", nargs="+", type=int, default=VOCABULARIES)
    parser.add_argument("--rounds", type=int, default=6, help="paired runs per row; 6 are the fewest for an interval")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for section in options.sections:
        print(f"\n## {section}")
        sections[section](options)


def scoring(options: argparse.Namespace) -> None:
    """m = 1 over the floor for web text, and m = 8 over m = 1 for documents of 512 tokens."""
    print("| body | V | documents | m = 1 / floor | m = 1 / (floor + product) | predicted | m = 8 / m = 1 |")
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        for vocabulary in options.vocabularies:
            for kind in ("web text", "512 tokens"):
                row = _scoring_row(size, vocabulary, kind, options)
                print(f"| {size} | {vocabulary} | {kind} | {' | '.join(row)} |", flush=True)


def _scoring_row(size: str, vocabulary: int, kind: str, options: argparse.Namespace) -> list[str]:
    lengths = web_lengths(options.tokens) if kind == "web text" else [512] * (options.tokens // 512)
    model, texts = model_of(size, vocabulary), documents_of(lengths, vocabulary)
    documents = [plain_document(ids, "mean", "document") for ids in texts]
    queries = {m: fit_query(model, validation_of(m, vocabulary), [], curvature="identity") for m in (1, M)}
    with opened(model_of(size, vocabulary)) as parts:  # a twin: scoring opens its own
        plan = plan_by_length(documents, CONTEXT, BATCH_TOKENS, packed=True)
        work = {
            "floor": lambda: run_floor(parts, plan, documents),
            "product": lambda: run_floor(parts, plan, documents, extra=queries[1].r[queries[1].layers[-1]][0]),
            "m = 1": lambda: score_documents(model, texts, queries[1]),
        }
        if kind == "512 tokens":
            work = {name: work[name] for name in ("floor", "m = 1")}
            work["m = 8"] = lambda: score_documents(model, texts, queries[M])
        seconds = paired_seconds(work, options.rounds)
    inputs = [length - 1 for length in lengths]
    floor = floor_operations(SIZES[size], vocabulary, inputs)
    return [
        ratio(seconds["m = 1"], seconds["floor"]),
        ratio(seconds["m = 1"], seconds["product"]) if "product" in seconds else "",
        f"{1 + head_operations(SIZES[size], vocabulary, inputs) / floor:.3f}",
        ratio(seconds["m = 8"], seconds["m = 1"]) if "m = 8" in seconds else "",
    ]


def fit(options: argparse.Namespace) -> None:
    """Every pass of a fit over the floor of the same documents, at m = 8."""
    print("| body | V | pass | / floor | / (floor + product) | predicted |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        for vocabulary in options.vocabularies:
            _fit_rows(size, vocabulary, options)


def _fit_rows(size: str, vocabulary: int, options: argparse.Namespace) -> None:
    lengths = web_lengths(options.tokens)
    model, texts = model_of(size, vocabulary), documents_of(lengths, vocabulary)
    documents = [plain_document(ids, "mean", "document") for ids in texts]
    v = fit_query(model, validation_of(M, vocabulary), [], curvature="identity").r
    with opened(model) as parts:
        layers = parts.layers(("embedding", "head"))
        sample = ReferenceSample(parts, documents, layers, CONTEXT, BATCH_TOKENS, 0, lambda n: None)
        weights = {layer: torch.ones(len(documents), M, dtype=torch.float64) for layer in layers}
        plan = plan_by_document(documents, CONTEXT, BATCH_TOKENS, packed=True)
        work = {
            "floor": lambda: run_floor(parts, plan, documents),
            "product": lambda: run_floor(parts, plan, documents, extra=v[layers[-1]][0]),
            "datainf, norms and products": lambda: sample.products(v),
            "datainf, weighted sum": lambda: sample.weighted_sum(weights),
            "kfac, factors": sample.factors,
        }
        seconds = paired_seconds(work, options.rounds)
    inputs = [length - 1 for length in lengths]
    predicted = head_operations(SIZES[size], vocabulary, inputs) / floor_operations(SIZES[size], vocabulary, inputs)
    for name in list(work)[2:]:
        over = f"{ratio(seconds[name], seconds['floor'])} | {ratio(seconds[name], seconds['product'])}"
        extra = 0.0 if name.startswith("kfac") else predicted
        print(f"| {size} | {vocabulary} | {name} | {over} | {1 + extra:.3f} |", flush=True)


if __name__ == "__main__":
    main()
