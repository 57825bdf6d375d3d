"""Token shards: the on-disk form of a tokenised snapshot, read by training, scoring and mixing alike.

A folder holds per shard `shard-00000.parquet` (one row per document: `doc_id`, `n_tokens`, `offset`, and the
carried source columns) and `shard-00000.bin` (token ids back to back, little-endian, memory-mappable), and one
`tokens.json` with the id type, the tokenizer's digest and the end-of-document id. Every document ends with that id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets.errors import AutomixerError


@dataclass(frozen=True)
class TokenShard:
    """One shard: documents in source order; `tokens` is a memory map, so a shard costs no memory until read."""

    snapshot: str
    name: str
    folder: Path
    dtype: str

    @property
    def documents_path(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    @property
    def tokens_path(self) -> Path:
        return self.folder / f"{self.name}.bin"

    @cached_property
    def documents(self) -> pl.DataFrame:
        """One row per document, source order: doc_id, n_tokens, offset and the carried columns."""
        return pl.read_parquet(self.documents_path)

    @cached_property
    def tokens(self) -> np.ndarray:
        """All token ids of the shard, [sum of n_tokens], memory-mapped read-only."""
        if self.tokens_path.stat().st_size == 0:
            return np.empty(0, dtype=self.dtype)
        return np.memmap(self.tokens_path, dtype=self.dtype, mode="r")

    def __len__(self) -> int:
        return self.documents.height

    def document_tokens(self, row: int) -> np.ndarray:
        """Token ids of the document in that row, [n_tokens]."""
        offset, length = self.documents["offset"][row], self.documents["n_tokens"][row]
        return self.tokens[offset : offset + length]

    def iter_tokens(self) -> Iterator[np.ndarray]:
        """Token ids of every document, in row order."""
        for offset, length in zip(
            self.documents["offset"].to_list(), self.documents["n_tokens"].to_list(), strict=True
        ):
            yield self.tokens[offset : offset + length]


@dataclass(frozen=True)
class TokenizedSnapshot:
    """A tokenised snapshot: its shards in order, and what the ids mean."""

    snapshot: str
    folder: Path
    dtype: str
    tokenizer_digest: str
    end_of_document: int
    vocab_size: int
    shard_names: tuple[str, ...]

    @property
    def shards(self) -> list[TokenShard]:
        return [TokenShard(self.snapshot, name, self.folder, self.dtype) for name in self.shard_names]


def shard_name(index: int) -> str:
    return f"shard-{index:05d}"


def open_tokenized(folder: Path) -> TokenizedSnapshot:
    """Open a folder written by `write_header`; raises AutomixerError when its header is missing."""
    header_path = folder / "tokens.json"
    if not header_path.exists():
        raise AutomixerError(
            f"{header_path} is missing: {folder} is not a tokenised snapshot; materialise tokenized_corpus"
        )
    header = json.loads(header_path.read_text())
    return TokenizedSnapshot(
        snapshot=header["snapshot"],
        folder=folder,
        dtype=header["dtype"],
        tokenizer_digest=header["tokenizer_digest"],
        end_of_document=header["end_of_document"],
        vocab_size=header["vocab_size"],
        shard_names=tuple(header["shards"]),
    )


def write_header(
    folder: Path,
    *,
    snapshot: str,
    dtype: str,
    tokenizer_digest: str,
    end_of_document: int,
    vocab_size: int,
    shards: list[str],
) -> None:
    """Write `tokens.json`, last of all files of a tokenised snapshot."""
    header = {
        "snapshot": snapshot,
        "dtype": dtype,
        "tokenizer_digest": tokenizer_digest,
        "end_of_document": end_of_document,
        "vocab_size": vocab_size,
        "shards": shards,
    }
    (folder / "tokens.json").write_text(json.dumps(header, indent=1) + "\n")


def token_dtype(vocab_size: int) -> str:
    """Smallest little-endian unsigned type that holds every id."""
    return "<u2" if vocab_size <= 2**16 else "<u4"
