"""Peak memory of scoring against batch size and vocabulary, beside that of gradients held per document.

Each point runs in a process of its own, whose peak of resident memory (Linux: VmHWM) is reset after model and query are
loaded: python -m benchmarks.influence_memory ours 4096 8192
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from automixer_assets.influence import InfluenceQuery, fit_query, score_documents
from automixer_assets.influence.gradients import CHUNK_ROWS
from benchmarks.measuring import SIZES, documents_of, model_of, validation_of

LENGTH, TOKENS = 256, 8192
POINTS = [(1024, 8192), (2048, 8192), (4096, 8192), (8192, 8192), (4096, 4096), (4096, 16384), (4096, 32768)]


def memory(options: argparse.Namespace) -> None:
    """Peak beyond model and query, in MiB, for the 5M body and documents of 256 tokens."""
    print("| tokens per batch | V | query | chunk of logits | peak, ours | documents x 2 V d | peak, per document |")
    print("|---|---|---|---|---|---|---|")
    for batch_tokens, vocabulary in POINTS:
        matrix = vocabulary * SIZES["5M"].hidden_size * 4 / 2**20
        chunk = min(CHUNK_ROWS, batch_tokens) * vocabulary * 4 / 2**20
        peaks = [_measured(method, batch_tokens, vocabulary) for method in ("ours", "naive")]
        held = batch_tokens // LENGTH * 2 * matrix
        row = [2 * matrix, chunk, peaks[0], held, peaks[1]]
        print(f"| {batch_tokens} | {vocabulary} | {' | '.join(f'{value:.0f}' for value in row)} |", flush=True)


def _measured(method: str, batch_tokens: int, vocabulary: int) -> float:
    command = [sys.executable, "-m", "benchmarks.influence_memory", method, str(batch_tokens), str(vocabulary)]
    return float(subprocess.check_output(command, text=True).split()[-1])


def main() -> None:
    """Print one point's peak, in MiB."""
    method, batch_tokens, vocabulary = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    model, documents = model_of("5M", vocabulary, LENGTH), documents_of([LENGTH] * (TOKENS // LENGTH), vocabulary)
    query = fit_query(model, validation_of(1, vocabulary), [], curvature="identity")
    score_documents(model, documents[:1], query)  # what a first call loads is not its memory
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    if method == "ours":
        score_documents(model, documents, query, batch_tokens=batch_tokens)
    else:
        _per_document(model, documents, query, batch_tokens // LENGTH)
    print((_status("VmHWM") - before) / 2**10)


def _per_document(model: PreTrainedModel, documents: list[np.ndarray], query: InfluenceQuery, size: int) -> None:
    """A batch's gradients side by side, [B, V, d] per layer, then their products with the query."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert head is not None
    matrices = {"embedding": embedding.weight, "head": head.weight}
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is matrix for matrix in matrices.values()))
    for start in range(0, len(documents), size):
        held = []  # B of 2 of [V, d]
        for ids in documents[start : start + size]:
            inputs = torch.from_numpy(ids)[None]
            held.append(torch.autograd.grad(model(input_ids=inputs, labels=inputs).loss, list(matrices.values())))
        for gradients in held:
            sum(
                gradient.flatten().dot(query.r[layer][0].flatten())
                for layer, gradient in zip(matrices, gradients, strict=True)
            )


def _status(field: str) -> float:
    """A field of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    main()
