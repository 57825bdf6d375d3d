"""MosaicML Streaming and LLM Foundry: MDS shards of packed sequences per group, and a data loader's YAML.

Layout of a shard, little-endian (streaming.base.format.mds): uint32 samples, uint32 offsets of each sample and of the
end, the columns as JSON, then the samples. One column of fixed shape has no header per sample, so a shard is written
from one array; the library's own writer gives the same bytes, but brings the SDKs of five clouds and encodes samples
one by one.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from automixer_assets.export.format import Counts, ExportGroup, ExportPlan, Format, caps_note
from automixer_assets.export.packing import run_sequences, write_packed
from automixer_assets.export.source import ExportPart
from automixer_assets.files import write_atomically

SHARD_BYTES = 2**26
COLUMN = "tokens"
INDEX = "index.json"
CONFIGURATION = "train_loader.yaml"
SHUFFLE_SEED = 17


class MosaicML(Format):
    """Weights are shares of samples; as every sample has the same length, of tokens."""

    name = "mosaicml"
    title = "MosaicML Streaming and LLM Foundry"
    reads = "tokens"
    unit = "sequences"
    packs = True

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        return write_packed(part, folder, ".mds", SHARD_BYTES, write_shard)

    def part_path(self, part: ExportPart, name: str) -> str:
        return f"{part.label}/{part.snapshot}.{part.shard}.{name}"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        columns = _columns(plan.encoding.dtype, plan.sequence_length)
        for group in plan.groups:
            shards = [_shard_info(out / path, columns) for path in group.files]
            index = json.dumps({"version": 2, "shards": shards}, sort_keys=True)
            write_atomically(out / group.label / INDEX, index.encode())
        text = yaml.safe_dump(_configuration(plan), sort_keys=False, allow_unicode=True)
        write_atomically(out / CONFIGURATION, text.encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return (
            "An epoch draws `proportion` x `epoch_size` samples from a group, give or take one, and every sample of "
            "the group as often as any other, give or take once; a group with fewer is repeated within the epoch: "
            f"{plan.repeated}.{caps_note(plan)}"
        )

    def start(self, plan: ExportPlan) -> str:
        return f"""LLM Foundry: copy `train_loader` and `max_duration` of `{CONFIGURATION}` into the training YAML, then
```
composer scripts/train/train.py TRAINING.yaml global_train_batch_size={plan.batch_size} \\
  max_seq_len={plan.sequence_length} ...
```
Keep `epoch_size`: without it, Streaming makes the epoch so long as the groups' samples together, whatever the run.
Streaming alone:
```python
import yaml
from streaming import Stream, StreamingDataset

with open("{plan.location}/{CONFIGURATION}") as file:
    options = yaml.safe_load(file)["train_loader"]["dataset"]
dataset = StreamingDataset(
    streams=[Stream(**stream) for stream in options["streams"].values()],
    epoch_size=options["epoch_size"], shuffle=True, shuffle_seed=options["shuffle_seed"], batch_size=8,
)
```
A sample's `{COLUMN}` are {plan.sequence_length} ids in a NumPy array; an LLM Foundry so old that it expects bytes of
int64 misreads them. To stream from an object store, upload the groups' folders and add `remote` to each stream."""


def write_shard(path: Path, sequences: np.ndarray) -> None:
    """Write an MDS shard of token ids, [samples, sequence_length]."""
    header = json.dumps(_columns(sequences.dtype.str, sequences.shape[1]), sort_keys=True).encode()
    first = 4 + 4 * (len(sequences) + 1) + len(header)
    size = sequences.shape[1] * sequences.itemsize
    offsets = first + size * np.arange(len(sequences) + 1, dtype="<u4")
    with path.open("wb") as file:
        file.write(struct.pack("<I", len(sequences)))
        file.write(offsets.astype("<u4").data)
        file.write(header)
        file.write(np.ascontiguousarray(sequences).data)


def _columns(dtype: str, sequence_length: int) -> dict[str, Any]:
    """What a shard says about itself, in the library's words."""
    return {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": [],
        "size_limit": SHARD_BYTES,
        "column_names": [COLUMN],
        "column_encodings": [f"ndarray:{np.dtype(dtype).name}:{sequence_length}"],
        "column_sizes": [sequence_length * np.dtype(dtype).itemsize],
    }


def _shard_info(path: Path, columns: dict[str, Any]) -> dict[str, Any]:
    with path.open("rb") as file:
        (samples,) = struct.unpack("<I", file.read(4))
    raw = {"basename": path.name, "bytes": path.stat().st_size, "hashes": {}}
    return {**columns, "samples": samples, "raw_data": raw, "zip_data": None}


def _configuration(plan: ExportPlan) -> dict[str, Any]:
    streams = {group.label: _stream(plan, group) for group in plan.groups}
    dataset = {
        "streams": streams,
        "epoch_size": sum(run_sequences(plan).values()),
        "max_seq_len": plan.sequence_length,
        "shuffle": True,
        "shuffle_seed": SHUFFLE_SEED,
    }
    loader = {"name": "text", "dataset": dataset, "drop_last": True, "num_workers": 8}
    return {"train_loader": loader, "max_duration": "1ep"}


def _stream(plan: ExportPlan, group: ExportGroup) -> dict[str, Any]:
    return {"local": str(plan.location / group.label), "proportion": group.weight}
