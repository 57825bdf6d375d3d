"""Tokenise an inventoried snapshot into token shards, one shard at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from automixer_assets.corpus.inventory import read_texts, verify_sources
from automixer_assets.corpus.shards import token_dtype, write_header
from automixer_assets.files import atomic_path
from automixer_assets.launch.job import RunTasks, make_once, require_folder, run_here
from automixer_assets.proxy.tokenizer import encode_batch, end_of_document, load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZE_VERSION = "1"
TEXTS_PER_CALL = 512


@dataclass(frozen=True)
class TokenizingJob:
    """Tokenise single shards of an inventory, by name; one that is there is kept."""

    inventory: Path
    snapshot_folder: Path
    tokenizer_folder: Path
    out: Path

    def open(self) -> Callable[[str], None]:
        for folder in (self.inventory, self.snapshot_folder, self.tokenizer_folder):
            require_folder(folder)
        tokenizer = load_tokenizer(self.tokenizer_folder)
        end, dtype = end_of_document(tokenizer), token_dtype(len(tokenizer))

        def tokenize(name: str) -> None:
            documents = self.inventory / "documents" / f"{name}.parquet"
            make_once(
                self.out / f"{name}.parquet",
                lambda: _tokenize_shard(
                    pl.read_parquet(documents), self.snapshot_folder, tokenizer, end, dtype, self.out / name
                ),
            )

        return tokenize


def tokenize_snapshot(
    inventory: Path,
    snapshot_folder: Path,
    tokenizer_folder: Path,
    out: Path,
    *,
    snapshot: str,
    on_progress: Callable[[int], None] | None = None,
    run: RunTasks = run_here,
) -> None:
    """Write token shards (see corpus/shards.py) into `out`; shards that are already there are kept.

    `on_progress(documents)` is called with the documents of each finished shard.
    """
    verify_sources(snapshot_folder, pl.read_parquet(inventory / "files.parquet"))
    paths = sorted((inventory / "documents").glob("shard-*.parquet"))
    documents = {path.stem: pq.read_metadata(path).num_rows for path in paths}
    report = on_progress or (lambda documents: None)
    job = TokenizingJob(inventory, snapshot_folder, tokenizer_folder, out)
    run(job, {name: name for name in documents}, lambda name: report(documents[name]))
    tokenizer = load_tokenizer(tokenizer_folder)
    write_header(
        out,
        snapshot=snapshot,
        dtype=token_dtype(len(tokenizer)),
        tokenizer_digest=tokenizer_digest(tokenizer_folder),
        end_of_document=end_of_document(tokenizer),
        vocab_size=len(tokenizer),
        shards=list(documents),
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
