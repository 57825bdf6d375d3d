"""Tiny real inputs for the proxy tests: a tokenised snapshot on disk, a two-layer model, a short training run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized, shard_name, token_dtype, write_header
from automixer_assets.settings import Architecture, Training

VOCABULARY = 64

torch.set_num_threads(1)  # on shared cores two threads spin on each other, ten times slower


@pytest.fixture(scope="session")
def architecture() -> Architecture:
    return Architecture(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )


@pytest.fixture(scope="session")
def training() -> Training:
    return Training(
        steps=12, sequence_length=8, batch_size=2, learning_rate=0.01, warmup_steps=3, resume_every=4, gradient_clip=0.5
    )


@pytest.fixture(scope="session")
def make_snapshot() -> Callable[..., TokenizedSnapshot]:
    """make_snapshot(folder, lengths per shard, name, digest): documents of those lengths with distinct ids."""

    def make(folder: Path, shards: list[list[int]], name: str = "s", digest: str = "d") -> TokenizedSnapshot:
        folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(len(name))
        dtype = token_dtype(VOCABULARY)
        for number, lengths in enumerate(shards):
            ids = [np.append(generator.integers(1, VOCABULARY, length - 1), 0) for length in lengths]
            offsets = np.cumsum([0, *lengths])[:-1] if lengths else []
            np.concatenate([np.empty(0, int), *ids]).astype(dtype).tofile(folder / f"{shard_name(number)}.bin")
            schema = {"doc_id": pl.String, "n_tokens": pl.Int64, "offset": pl.Int64}
            columns = {"doc_id": [f"{name}-{number}-{row}" for row in range(len(lengths))]}
            pl.DataFrame({**columns, "n_tokens": lengths, "offset": offsets}, schema=schema).write_parquet(
                folder / f"{shard_name(number)}.parquet"
            )
        write_header(
            folder,
            snapshot=name,
            dtype=dtype,
            tokenizer_digest=digest,
            end_of_document=0,
            vocab_size=VOCABULARY,
            shards=[shard_name(number) for number in range(len(shards))],
        )
        return open_tokenized(folder)

    return make


@pytest.fixture
def snapshot(tmp_path: Path, make_snapshot: Callable[..., TokenizedSnapshot]) -> TokenizedSnapshot:
    return make_snapshot(tmp_path / "snapshot", [[5, 9, 1, 30], [], [3, 17, 2, 8, 40]])
