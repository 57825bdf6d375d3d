"""A tokenised snapshot of random ids on disk, to train on without a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized, shard_name, token_dtype, write_header

DOCUMENT_TOKENS = 1000


def random_corpus(folder: Path, vocab_size: int, tokens: int) -> TokenizedSnapshot:
    """Documents of 1,000 ids each, at least `tokens` together, frequencies falling as in text (Zipf)."""
    folder = folder / "corpus"
    folder.mkdir()
    documents = -(-tokens // DOCUMENT_TOKENS)
    dtype, name = token_dtype(vocab_size), shard_name(0)
    ids = np.random.default_rng(0).zipf(1.2, documents * DOCUMENT_TOKENS) % vocab_size
    ids.astype(dtype).tofile(folder / f"{name}.bin")
    pl.DataFrame(
        {
            "doc_id": [str(number) for number in range(documents)],
            "n_tokens": [DOCUMENT_TOKENS] * documents,
            "offset": [number * DOCUMENT_TOKENS for number in range(documents)],
        }
    ).write_parquet(folder / f"{name}.parquet")
    write_header(
        folder,
        snapshot="random",
        dtype=dtype,
        tokenizer_digest="none",
        end_of_document=0,
        vocab_size=vocab_size,
        shards=[name],
    )
    return open_tokenized(folder)
