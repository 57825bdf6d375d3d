"""LitData and LitGPT: chunks of packed sequences for its TokensLoader, an index per group, and a loading script.

Layout of a chunk, little-endian (litdata.streaming.writer): uint32 items, uint32 offsets of each item and of the end,
then the items' ids. The library's own writer gives the same bytes, but brings torchvision and the SDKs of two clouds
and serialises tensors one by one.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, ExportPlan, Format, caps_note
from automixer_assets.export.packing import write_packed, write_script
from automixer_assets.export.source import ExportPart
from automixer_assets.files import write_atomically

CHUNK_BYTES = 2**26
TYPE_CODES = {"<u2": 20, "<u4": 16}
"""torch.uint16; and torch.int32, as LitData knows no uint32: ids below 2**31 have the same bytes."""
SCRIPT = "load_litdata.py"
TREE_OF_ONE_TENSOR = '[1, {"type": null, "context": null, "children_spec": []}]'


class LitData(Format):
    """Weights are shares of blocks of fixed length, so of tokens."""

    name = "litdata"
    title = "LitData and LitGPT"
    reads = "tokens"
    unit = "sequences"
    packs = True

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        return write_packed(part, folder, ".bin", CHUNK_BYTES, write_chunk)

    def part_path(self, part: ExportPart, name: str) -> str:
        return f"{part.label}/{part.snapshot}.{part.shard}.{name}"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        for group in plan.groups:
            chunks = [_chunk_info(out / path, plan.sequence_length) for path in group.files]
            index = {"chunks": chunks, "config": _config(plan.encoding.dtype, plan.sequence_length)}
            write_atomically(out / group.label / "index.json", json.dumps(index, sort_keys=True).encode())
        passes = [max(1, math.ceil(round(group.passes, 6))) if plan.capped else None for group in plan.groups]
        groups = [
            {"name": group.label, "weight": group.weight, "passes": allowed}
            for group, allowed in zip(plan.groups, passes, strict=True)
        ]
        write_script(plan, out, SCRIPT, groups)

    def exhaustion(self, plan: ExportPlan) -> str:
        if plan.encoding.vocab_size > 2**31:
            raise AutomixerError("LitData's largest id type is int32: use a tokenizer of at most 2**31 ids")
        if plan.capped:
            return (
                "LitData ends a mixture when a group runs out. The script reads a group as often as its cap allows, in "
                "whole passes, and ends then; as LitData draws groups at random, that may be a little before the run's "
                f"length: {plan.repeated}.{caps_note(plan)}"
            )
        return (
            "LitData itself ends a mixture when a group runs out. The script starts that group again, reshuffled and "
            f"without end, and the trainer stops at its number of steps: {plan.repeated}."
        )

    def start(self, plan: ExportPlan) -> str:
        ids = "uint16" if plan.encoding.dtype == "<u2" else "int32"
        return f"""```python
import sys
sys.path.insert(0, {str(plan.location)!r})
from litdata import StreamingDataLoader
from load_litdata import load_mixture

loader = StreamingDataLoader(load_mixture(seed=0), batch_size=8, num_workers=4)
```
Batches are tensors [batch, {plan.sequence_length}] of {ids}: pass them on as `batch.long()`. Stop after {plan.steps}
steps of {plan.batch_size} sequences over all processes. In LitGPT, return this loader from a `DataModule`'s
`train_dataloader`. LitData draws the group of every sequence at random: after n sequences a share s is off by about
sqrt(s (1 - s) / n). Its `state_dict` (0.2.76) resumes as long as no group has been read more than once, and refuses
afterwards."""


def write_chunk(path: Path, sequences: np.ndarray) -> None:
    """Write a chunk of token ids, [items, sequence_length]."""
    first, size = 4 * (len(sequences) + 2), sequences.shape[1] * sequences.itemsize
    offsets = first + size * np.arange(len(sequences) + 1, dtype="<u4")
    with path.open("wb") as file:
        file.write(struct.pack("<I", len(sequences)))
        file.write(offsets.astype("<u4").data)
        file.write(np.ascontiguousarray(sequences).data)


def _chunk_info(path: Path, sequence_length: int) -> dict[str, Any]:
    with path.open("rb") as file:
        (items,) = struct.unpack("<I", file.read(4))
    return {
        "chunk_bytes": path.stat().st_size,
        "chunk_size": items,
        "dim": items * sequence_length,
        "filename": path.name,
    }


def _config(dtype: str, sequence_length: int) -> dict[str, Any]:
    return {
        "chunk_bytes": CHUNK_BYTES,
        "chunk_size": None,
        "compression": None,
        "data_format": [f"no_header_tensor:{TYPE_CODES[dtype]}"],
        "data_spec": TREE_OF_ONE_TENSOR,
        "encryption": None,
        "item_loader": "TokensLoader",
    }
