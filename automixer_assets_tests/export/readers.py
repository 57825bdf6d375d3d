"""Readers of the exported files, written from the formats' specifications and apart from the code that writes them."""

from __future__ import annotations

import itertools
import json
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


def read_mds(folder: Path) -> list[list[int]]:
    """Samples of a folder of MDS shards with a column of arrays, by its index and the shards' own offsets."""
    found = []
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        content = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(content) == shard["raw_data"]["bytes"]
        (n_samples,) = struct.unpack_from("<I", content)
        offsets = struct.unpack_from(f"<{n_samples + 1}I", content, 4)
        header = json.loads(content[4 * (n_samples + 2) : offsets[0]])
        assert {key: shard[key] for key in header} == header
        assert (n_samples, offsets[-1]) == (shard["samples"], len(content))
        kind, dtype, length = header["column_encodings"][0].split(":")
        assert kind == "ndarray" and header["column_sizes"] == [int(length) * np.dtype(dtype).itemsize]
        found += [np.frombuffer(content[a:b], dtype).tolist() for a, b in itertools.pairwise(offsets)]
    return found


LITDATA_TYPES = {"no_header_tensor:20": "<u2", "no_header_tensor:16": "<i4"}


def read_litdata(folder: Path, block_size: int) -> list[list[int]]:
    """Blocks of a folder of LitData chunks, as its TokensLoader cuts them."""
    index = json.loads((folder / "index.json").read_text())
    dtype = np.dtype(LITDATA_TYPES[index["config"]["data_format"][0]])
    found = []
    for chunk in index["chunks"]:
        content = (folder / chunk["filename"]).read_bytes()
        (n_items,) = struct.unpack_from("<I", content)
        offsets = struct.unpack_from(f"<{n_items + 1}I", content, 4)
        assert (len(content), n_items, offsets[0]) == (chunk["chunk_bytes"], chunk["chunk_size"], 4 * (n_items + 2))
        ids = np.frombuffer(content, dtype, offset=offsets[0])
        assert (len(ids), offsets[-1]) == (chunk["dim"], len(content))
        found += ids[: len(ids) // block_size * block_size].reshape(-1, block_size).tolist()
    return found


def read_example(record: bytes) -> dict[str, list[int]]:
    """The int64 features of a serialised tf.train.Example."""
    features = {}
    for entry in _fields(_fields(record)[0][1]):
        key, value = (content for _, content in _fields(entry[1]))
        ((number, int64_list),) = _fields(value)
        assert number == 3
        features[key.decode()] = _varints(_fields(int64_list)[0][1])
    return features


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    """Length-delimited fields of a protobuf message: number and content."""
    found, at = [], 0
    while at < len(message):
        assert message[at] & 7 == 2
        width = next(i for i in range(1, 11) if message[at + i] < 128)
        (length,) = _varints(message[at + 1 : at + 1 + width])
        found.append((message[at] >> 3, message[at + 1 + width : at + 1 + width + length]))
        at += 1 + width + length
    assert at == len(message)
    return found


def _varints(content: bytes) -> list[int]:
    found, value, shift = [], 0, 0
    for byte in content:
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            found.append(value)
            value, shift = 0, 0
    assert shift == 0
    return found


def expected_sequences(case: Case, group: str, length: int) -> list[list[int]]:
    """A group's selected documents back to back, cut to whole sequences."""
    ids = [token for document in expected_documents(case, group) for token in document]
    return [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]


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
