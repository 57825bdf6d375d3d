"""Texts as Parquet, one file per part in a folder per group: what every trainer that tokenises itself can read."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from automixer_assets.export.format import Counts, ExportGroup, ExportPlan, Format
from automixer_assets.export.source import ExportPart
from automixer_assets.export.texts import TEXT_SCHEMA

FILE = "documents.parquet"


class ParquetTexts(Format):
    """`GROUP/SNAPSHOT-shard-NNNNN.parquet` with columns id, text, url, licence, n_tokens."""

    reads = "text"

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        documents = tokens = 0
        with pq.ParquetWriter(folder / FILE, TEXT_SCHEMA, compression="zstd", compression_level=1) as writer:
            for batch in part.text_batches():
                writer.write_batch(batch, row_group_size=batch.num_rows)
                documents, tokens = documents + batch.num_rows, tokens + int(batch["n_tokens"].to_numpy().sum())
        return Counts(documents, tokens)

    def part_path(self, part: ExportPart, name: str) -> str:
        return f"{part.label}/{part.snapshot}-{part.shard}.parquet"


def folder_of(plan: ExportPlan, group: ExportGroup) -> str:
    """Where the trainer finds a group's files."""
    return str(plan.location / group.label)
