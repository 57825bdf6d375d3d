"""What the benchmarks share: models, documents of realistic lengths, CPU time, intervals of paired ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel

from automixer_assets.proxy.model import build_model
from automixer_assets.settings import Architecture

CONTEXT = 2048
SIZES = {
    "5M": Architecture(
        hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2
    ),
    "25M": Architecture.model_validate("25M"),
}
"""By size: a body of 5 million parameters, and the paper's smallest proxy (a body of 15 million, tied weights)."""
MEDIAN_TOKENS, SPREAD = 400, 0.9
"""Documents' lengths are log-normal, as in web text (FineWeb: median near 400 GPT-2 tokens, standard deviation of the
logarithm near 0.9)."""


def model_of(size: str, vocabulary: int, context: int = CONTEXT) -> PreTrainedModel:
    """Random weights: what is measured does not depend on their values."""
    return build_model(SIZES[size], vocabulary, context, seed=0)


def web_lengths(n_tokens: int, seed: int = 0) -> list[int]:
    """Lengths of documents that hold n_tokens or a little more, 8 to the context."""
    generator = np.random.default_rng(seed)
    lengths: list[int] = []
    while sum(lengths) < n_tokens:
        lengths.append(int(np.clip(generator.lognormal(math.log(MEDIAN_TOKENS), SPREAD), 8, CONTEXT)))
    return lengths


def documents_of(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> list[np.ndarray]:
    """Token ids by Zipf's law, as in text: the same few ids come again and again."""
    generator = np.random.default_rng(seed)
    return [(generator.zipf(1.3, length) - 1) % vocabulary for length in lengths]


def validation_of(m: int, vocabulary: int) -> dict[str, list[tuple[np.ndarray, list[bool]]]]:
    """m tasks of one item of 32 tokens each."""
    return {f"task_{k}": [(documents_of([32], vocabulary, seed=k + 1)[0], [True] * 32)] for k in range(m)}


def paired_seconds(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of this process by name, `rounds` times in turn after one round to warm up.

    In turn, so that a machine that drifts slows all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, run in work.items():
            begun = time.process_time()
            run()
            if round_ > 0:
                seconds[name].append(time.process_time() - begun)
    return seconds


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """Median of the paired ratios with the interval that holds it with at least 95 %, by order statistics."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    n, cut = len(ratios), 0
    while 2 * sum(math.comb(n, i) for i in range(cut + 2)) / 2**n <= 0.05:
        cut += 1
    return f"{statistics.median(ratios):.3f} [{ratios[cut]:.3f}, {ratios[n - 1 - cut]:.3f}]"


def body_parameters(architecture: Architecture) -> int:
    """Weights of the matrix products of all blocks."""
    hidden = architecture.hidden_size
    key_value = hidden // architecture.num_attention_heads * architecture.num_key_value_heads
    attention, feed_forward = 2 * hidden * (hidden + key_value), 3 * hidden * architecture.intermediate_size
    return architecture.num_hidden_layers * (attention + feed_forward)


def floor_operations(architecture: Architecture, vocabulary: int, lengths: Sequence[int]) -> float:
    """Floating-point operations of forward + activation-only backward over windows of `lengths` inputs.

    Per token 2 N forward and 2 N backward, N the weights of body and output layer; causal attention per window of T
    inputs 2 T^2 d per layer forward (scores and values, half of each masked) and 4 T^2 d backward.
    """
    weights = body_parameters(architecture) + vocabulary * architecture.hidden_size
    attention = 6 * architecture.num_hidden_layers * architecture.hidden_size * sum(n * n for n in lengths)
    return 4 * weights * sum(lengths) + attention


def head_operations(architecture: Architecture, vocabulary: int, lengths: Sequence[int]) -> float:
    """Floating-point operations of one product with a [V, d] matrix for every token."""
    return 2 * vocabulary * architecture.hidden_size * sum(lengths)
