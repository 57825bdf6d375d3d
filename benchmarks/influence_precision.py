"""A body in bfloat16 and a compiled one: how far the ranking of documents moves, and what CPU time they save."""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from automixer_assets.influence import fit_query, score_documents
from automixer_assets.microworld.documents import Document, snapshot_documents
from automixer_assets.microworld.facts import build_world
from automixer_assets.proxy.tokenizer import encode_batch, load_tokenizer, train_tokenizer
from benchmarks.measuring import model_of, paired_seconds, ratio

VOCABULARY, CONTEXT = 1024, 256
STEPS, BATCH = 100, 16
SCORED = 64


def precision(options: argparse.Namespace) -> None:
    """Spearman's rank correlation with float32 over documents, least of all tasks, and CPU time over float32's.

    The model is the 5M body, trained for 100 steps of 16 micro-world documents; compiling takes a minute or two and is
    not counted.
    """
    documents = snapshot_documents(build_world(0, 48), "benchmark-1", BATCH * STEPS + SCORED + 64)
    tokens = _tokens([document.text for document in documents])
    model = _trained(tokens[: BATCH * STEPS])
    held_out = list(zip(documents, tokens, strict=True))[BATCH * STEPS :]
    query = fit_query(model, _tasks(held_out[SCORED:]), tokens[:32], max_length=CONTEXT)
    scored = [ids for _, ids in held_out[:SCORED]]
    variants = {"float32": {}, "bfloat16": {"dtype": "bfloat16"}, "compiled": {"compile": True}}
    found: dict[str, np.ndarray] = {}

    def run(name: str) -> None:
        table = score_documents(model, scored, query, **variants[name])
        found[name] = np.stack([table[f"influence_{task}"].to_numpy() for task in query.names])  # [m, n]

    seconds = paired_seconds({name: lambda name=name: run(name) for name in variants}, options.rounds)
    print(f"| body | Spearman with float32, least of {len(query.names)} tasks | CPU time / float32 |")
    print("|---|---|---|")
    for name in list(variants)[1:]:
        least = min(map(_spearman, found[name], found["float32"]))
        print(f"| {name} | {least:.5f} | {ratio(seconds[name], seconds['float32'])} |", flush=True)


def _tokens(texts: list[str]) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(iter(texts), VOCABULARY, Path(folder))
        return encode_batch(load_tokenizer(Path(folder)), texts)


def _trained(documents: list[list[int]]) -> PreTrainedModel:
    model = model_of("5M", VOCABULARY, CONTEXT).train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for start in range(0, len(documents), BATCH):
        batch = [ids[:CONTEXT] for ids in documents[start : start + BATCH]]
        inputs = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in batch], batch_first=True)
        targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in batch], True, -100)
        loss = model(input_ids=inputs, labels=targets).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    print(f"trained to a loss of {losses[-1]:.2f} (ln V = {np.log(VOCABULARY):.2f})\n")
    return model.eval()


def _tasks(documents: list[tuple[Document, list[int]]]) -> dict[str, list[tuple[list[int], list[bool]]]]:
    """Skill -> documents about it."""
    items = defaultdict(list)
    for document, ids in documents:
        if document.kind == "skill":
            items[document.skill].append((ids, [True] * len(ids)))
    return dict(items)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    ranks = np.stack([first, second]).argsort(axis=1).argsort(axis=1)  # [2, n]
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    return float(centred[0] @ centred[1] / np.sqrt((centred**2).sum(axis=1).prod()))
