"""What is exported: one part per group and shard, its token ids or texts in batches, so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.export.retokenizing import Retokenizer
from automixer_assets.export.texts import TEXT_SCHEMA, read_documents
from automixer_assets.mixture.manifest import ManifestGroup, ManifestShard
from automixer_assets.mixture.selected import SelectedShard, selected_shards

BATCH_TOKENS = 2**22


@dataclass(frozen=True)
class TokenBatch:
    """Whole documents: `ids` back to back (each document ends with the end-of-document id), `lengths` per document."""

    ids: np.ndarray  # [tokens]
    lengths: np.ndarray  # [documents], int64


@dataclass(frozen=True)
class ExportPart:
    """The documents that a group takes from one shard, in the shard's order."""

    label: str
    selected: SelectedShard
    dtype: str
    corpus: Path | None
    """The folder of crawl snapshots; None where only tokens are needed."""
    retokenizer: Retokenizer | None
    tokens_before: int
    """Tokens that the manifest lists in the group's earlier shards."""
    sequence_length: int
    carried: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint16))
    """For formats that pack: ids at the end of the group's part before this one that filled no sequence."""

    @property
    def group(self) -> str:
        return self.selected.group

    @property
    def snapshot(self) -> str:
        return self.selected.shard.snapshot

    @property
    def shard(self) -> str:
        return self.selected.shard.name

    @property
    def documents(self) -> pl.DataFrame:
        """row, doc_id, n_tokens, offset; tokens as the mixture counts them."""
        return self.selected.documents

    def token_batches(self) -> Iterator[TokenBatch]:
        """Ids in the export's type, about BATCH_TOKENS at a time and at least a document."""
        if self.retokenizer is not None:
            yield from self._retokenized_batches(self.retokenizer)
            return
        lengths, offsets = self.documents["n_tokens"].to_numpy(), self.documents["offset"].to_numpy()
        for first, last in _batches(lengths, BATCH_TOKENS):
            ids = _gather(self.selected.shard.tokens, offsets[first:last], lengths[first:last])
            yield TokenBatch(ids.astype(self.dtype, copy=False), lengths[first:last])

    def text_batches(self) -> Iterator[pa.RecordBatch]:
        """Documents with TEXT_SCHEMA's columns; n_tokens as the trainer's tokenizer counts them.

        Raises:
            AutomixerError: a source file is gone, or its text is not the one that was tokenised.
        """
        for batch in read_documents(self._source_folder, self._places):
            if self.retokenizer is None:
                yield batch
                continue
            lengths = [len(ids) for ids in self.retokenizer.encode(batch["text"].to_pylist())]
            column = TEXT_SCHEMA.get_field_index("n_tokens")
            yield batch.set_column(column, TEXT_SCHEMA.field(column), pa.array(lengths, pa.int64()))

    def _retokenized_batches(self, retokenizer: Retokenizer) -> Iterator[TokenBatch]:
        for batch in read_documents(self._source_folder, self._places):
            documents = retokenizer.encode(batch["text"].to_pylist())
            ids = np.fromiter((token for ids in documents for token in ids), dtype=self.dtype)
            yield TokenBatch(ids, np.array([len(each) for each in documents], dtype=np.int64))

    @property
    def _source_folder(self) -> Path:
        assert self.corpus is not None
        return self.corpus / self.snapshot

    @cached_property
    def _places(self) -> pl.DataFrame:
        """The part's rows of the tokenised shard, which say where each text lies: file, row, content_hash."""
        carried = pl.read_parquet(self.selected.shard.documents_path)
        return carried.select(pl.all().gather(self.documents["row"].to_list()))


def group_parts(
    group: ManifestGroup,
    shards: Sequence[ManifestShard],
    lake_root: Path,
    snapshots: Mapping[str, TokenizedSnapshot],
    *,
    label: str,
    dtype: str,
    corpus: Path | None,
    retokenizer: Retokenizer | None,
    sequence_length: int,
) -> Iterator[ExportPart]:
    """The parts of a group, of the given shards only.

    Selection files of the others are read all the same: together they say whether the manifest's documents are there.
    """
    wanted = {shard.uri for shard in shards}
    if not wanted:
        return
    selected_parts = zip(group.shards, selected_shards(group, lake_root, snapshots), strict=True)
    ends = accumulate(shard.n_tokens for shard in group.shards)
    before = {shard.uri: end - shard.n_tokens for shard, end in zip(group.shards, ends, strict=True)}
    for shard, selected in ((shard, selected) for shard, selected in selected_parts if shard.uri in wanted):
        yield ExportPart(label, selected, dtype, corpus, retokenizer, before[shard.uri], sequence_length)


def _batches(lengths: np.ndarray, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of documents of at most `size` tokens together, or of one document that is longer."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        before = ends[first] - lengths[first]
        last = max(first + 1, int(np.searchsorted(ends, before + size, side="right")))
        yield first, last
        first = last


def _gather(tokens: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The documents' ids back to back; neighbours in the file are copied at once."""
    ends = offsets + lengths
    breaks = np.flatnonzero(offsets[1:] != ends[:-1]) + 1
    starts = offsets[np.concatenate([[0], breaks])]
    stops = ends[np.concatenate([breaks, [len(ends)]]) - 1]
    return np.concatenate([tokens[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)])
