"""Token ids back to back without a header, several parts in a file up to a size that every reader can index."""

from __future__ import annotations

from pathlib import Path

from automixer_assets.export.format import Counts, Format
from automixer_assets.export.source import ExportPart

TOKENS_PER_FILE = 2**30
"""OLMo-core's mixture indexes a file's tokens with 32 bits, so a file must stay below 2**32 of them."""


class FlatTokens(Format):
    """`GROUP/NNNNN.SUFFIX`; every document ends with the end-of-document id."""

    reads = "tokens"
    suffix: str

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        documents = tokens = 0
        with (folder / "tokens").open("wb") as file:
            for batch in part.token_batches():
                file.write(batch.ids.data)
                documents, tokens = documents + len(batch.lengths), tokens + len(batch.ids)
        return Counts(documents, tokens)

    def part_path(self, part: ExportPart, name: str) -> str:
        raise AssertionError("every file is joined")

    def joined_path(self, part: ExportPart, name: str) -> str | None:
        return f"{part.label}/{part.tokens_before // TOKENS_PER_FILE:05d}.{self.suffix}"
