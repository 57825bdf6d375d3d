"""Readers of the exported files, written from the formats' specifications and apart from the code that writes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from automixer_assets_tests.export.cases import Case

MEGATRON_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}


def read_megatron(prefix: Path) -> list[list[int]]:
    """Documents of an indexed dataset, by its index alone."""
    index, data = prefix.with_name(prefix.name + ".idx").read_bytes(), prefix.with_name(prefix.name + ".bin")
    magic, version, code, n_sequences, n_boundaries = struct.unpack_from("<9sQBQQ", index)
    assert (magic, version) == (b"MMIDIDX\x00\x00", 1)
    start = struct.calcsize("<9sQBQQ")
    lengths = struct.unpack_from(f"<{n_sequences}i", index, start)
    pointers = struct.unpack_from(f"<{n_sequences}q", index, start + 4 * n_sequences)
    boundaries = struct.unpack_from(f"<{n_boundaries}q", index, start + 12 * n_sequences)
    assert start + 12 * n_sequences + 8 * n_boundaries == len(index)
    assert boundaries == tuple(range(n_sequences + 1))
    content, dtype = data.read_bytes(), np.dtype(MEGATRON_TYPES[code])
    assert sum(lengths) * dtype.itemsize == len(content)
    return [
        np.frombuffer(content, dtype, length, pointer).tolist()
        for length, pointer in zip(lengths, pointers, strict=True)
    ]


def expected_documents(case: Case, group: str) -> Iterator[list[int]]:
    """Token ids of a group's selected documents, by its selection files."""
    found = next(each for each in case.manifest.groups if each.name == group)
    for listed in found.shards:
        shards = {shard.name: shard for shard in case.snapshots[listed.snapshot].shards}
        for row in pl.read_parquet(case.root / listed.uri)["row"]:
            yield shards[listed.shard].document_tokens(row).tolist()


def snapshot_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
