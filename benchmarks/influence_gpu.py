"""Tokens per second and share of peak on a GPU: three of the paper's sizes at 2048 tokens, packed, bfloat16."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from automixer_assets.influence import fit_query, score_documents
from automixer_assets.influence.batches import windows_of
from automixer_assets.influence.language_model import opened
from automixer_assets.proxy.model import build_model
from automixer_assets.settings import Architecture
from benchmarks.measuring import CONTEXT, documents_of, floor_operations, head_operations, validation_of, web_lengths

VOCABULARY, TOKENS, RUNS = 32_000, 2**19, 3
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40": 181e12, "A10": 125e12}
"""Dense bfloat16 operations per second of tensor cores, from NVIDIA's data sheets."""


def gpu(options: argparse.Namespace) -> None:
    """Tokens per second of scoring one direction, and the share of the tensor cores' peak that its operations are.

    Operations: forward + activation-only backward + one product of the head's size (`measuring.floor_operations`,
    `head_operations`). The head's products run in TF32, whose peak is half of bfloat16's.
    """
    if not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device here")
        return
    name = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAKS.items() if key in name), None)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    print(f"{name}, torch {torch.__version__}\n\n| model | attention | tokens/s | share of peak | peak memory |")
    print("|---|---|---|---|---|")
    for size in ("75M", "350M", "1.5B"):
        print(f"| {size} | {' | '.join(_measured(size, peak))} |", flush=True)
    torch.set_float32_matmul_precision(precision)


def _measured(size: str, peak: float | None) -> list[str]:
    model = build_model(Architecture.model_validate(size), VOCABULARY, CONTEXT, seed=0).bfloat16()
    torch.nn.Module.to(model, "cuda")
    lengths = web_lengths(TOKENS)
    documents = documents_of(lengths, VOCABULARY)
    query = fit_query(model, validation_of(1, VOCABULARY), [], curvature="identity")
    with opened(model) as parts:
        attention = parts.attention
    score_documents(model, documents[: len(documents) // 8], query)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        score_documents(model, documents, query)  # ends with results on the host
        seconds.append(time.perf_counter() - begun)
    inputs = [window.n_inputs for i, length in enumerate(lengths) for window in windows_of(i, length, CONTEXT)]
    operations = floor_operations(Architecture.model_validate(size), VOCABULARY, inputs) + head_operations(
        Architecture.model_validate(size), VOCABULARY, inputs
    )
    median = float(np.median(seconds))
    share = "peak not listed" if peak is None else f"{operations / median / peak:.1%}"
    return [attention, f"{sum(inputs) / median:,.0f}", share, f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"]
