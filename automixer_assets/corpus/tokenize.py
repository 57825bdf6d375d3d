"""Tokenise an inventoried snapshot into token shards, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from automixer_assets.corpus.inventory import read_texts, verify_sources
from automixer_assets.corpus.shards import token_dtype, write_header
from automixer_assets.files import atomic_path
from automixer_assets.proxy.tokenizer import encode_batch, end_of_document, load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZE_VERSION = "1"
TEXTS_PER_CALL = 512


def tokenize_snapshot(
    inventory: Path,
    snapshot_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    *,
    snapshot: str,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write token shards (see corpus/shards.py) into `out`; shards that are already there are kept.

    `on_progress(documents)` is called with the documents of each finished shard.
    """
    verify_sources(snapshot_folder, pl.read_parquet(inventory / "files.parquet"))
    tokenizer = load_tokenizer(tokenizer_folder)
    vocab_size = len(tokenizer)
    end = end_of_document(tokenizer)
    dtype = token_dtype(vocab_size)
    names: list[str] = []
    for path in sorted((inventory / "documents").glob("shard-*.parquet")):
        documents = pl.read_parquet(path)
        if not (out / path.name).exists():
            _tokenize_shard(documents, snapshot_folder, tokenizer, end, dtype, out / path.stem)
        names.append(path.stem)
        if on_progress is not None:
            on_progress(documents.height)
    write_header(
        out,
        snapshot=snapshot,
        dtype=dtype,
        tokenizer_digest=tokenizer_digest(tokenizer_folder),
        end_of_document=end,
        vocab_size=vocab_size,
        shards=names,
    )


def _tokenize_shard(
    documents: pl.DataFrame, snapshot_folder: Path, tokenizer: PreTrainedTokenizerBase, end: int, dtype: str, stem: Path
) -> None:
    """Write `<stem>.bin`, then `<stem>.parquet`: the table's presence says that the shard is whole."""
    lengths: list[int] = []
    with atomic_path(stem.with_suffix(".bin")) as temporary, temporary.open("wb") as file:
        for texts in _batched(read_texts(snapshot_folder, documents), TEXTS_PER_CALL):
            for ids in encode_batch(tokenizer, texts):
                file.write(np.asarray([*ids, end], dtype=dtype).tobytes())
                lengths.append(len(ids) + 1)
    n_tokens = pl.Series("n_tokens", lengths, dtype=pl.Int64)
    table = documents.with_columns(n_tokens, (n_tokens.cum_sum() - n_tokens).alias("offset"))
    with atomic_path(stem.with_suffix(".parquet")) as temporary:
        table.write_parquet(temporary)


def _batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """itertools.batched, which Python 3.11 lacks."""
    remaining = iter(texts)
    while batch := list(islice(remaining, size)):
        yield batch
