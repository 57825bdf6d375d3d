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
from string import Template
from typing import Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, ExportPlan, Format
from automixer_assets.export.packing import run_sequences, write_packed
from automixer_assets.export.source import ExportPart
from automixer_assets.files import write_atomically

CHUNK_BYTES = 2**26
TYPE_CODES = {"<u2": 20, "<u4": 16}
"""torch.uint16; and torch.int32, as LitData knows no uint32: ids below 2**31 have the same bytes."""
SCRIPT = "load_litdata.py"
SEED = 17
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
        write_atomically(out / SCRIPT, _script(plan).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        if plan.encoding.vocab_size > 2**31:
            raise AutomixerError("LitData's largest id type is int32: use a tokenizer of at most 2**31 ids")
        if plan.manifest.exhaustion_policy == "repeat":
            return (
                "LitData itself ends a mixture as soon as one group runs out; the script starts that group again, "
                "reshuffled, and goes on without end: stop training at the run's length."
            )
        return (
            "Shares are those of the whole run. The script reads a group as often as its cap allows, in whole passes, "
            "then ends. LitData draws groups at random, so that may be a little before the run's length."
        )

    def start(self, plan: ExportPlan) -> str:
        n_sequences = sum(run_sequences(plan).values())
        return (
            f"```python\nfrom load_litdata import mixture  # {SCRIPT}, beside this sheet\n"
            "from litdata import StreamingDataLoader\n\n"
            "loader = StreamingDataLoader(mixture(), batch_size=8, num_workers=4)\n```\n"
            f"Stop after {n_sequences:,} sequences of {plan.sequence_length} ids over all ranks. In LitGPT return this "
            "loader from a `DataModule`'s `train_dataloader`. Ids come as torch "
            f"{'uint16' if plan.encoding.dtype == '<u2' else 'int32'}: convert them with `.long()`. "
            "LitData draws the group of each sequence at random, so the share s of a group is off by about "
            "sqrt(s (1 - s) / n) after n sequences. "
            f"Any `block_size` that divides {plan.sequence_length} can be read. The `state_dict` of LitData 0.2.76 "
            "resumes as long as no group has been read more than once; after that it refuses."
        )


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


def _script(plan: ExportPlan) -> str:
    repeats = plan.manifest.exhaustion_policy == "repeat"
    groups = {
        group.label: (group.weight, None if repeats else max(1, math.ceil(group.passes))) for group in plan.groups
    }
    lines = "".join(f"    {json.dumps(label)}: {values!r},\n" for label, values in groups.items())
    return SCRIPT_TEMPLATE.substitute(groups=lines, sequence_length=plan.sequence_length, seed=SEED)


SCRIPT_TEMPLATE = Template('''"""The mixture as a LitData dataset: `from load_litdata import mixture`."""

from pathlib import Path

from litdata import CombinedStreamingDataset, StreamingDataset, TokensLoader

FOLDER = Path(__file__).resolve().parent
SEQUENCE_LENGTH = $sequence_length
GROUPS = {  # folder: (weight, passes that are allowed; None for any number)
$groups}


class Repeated(StreamingDataset):
    """A group that starts again, reshuffled, when it runs out."""

    passes = None
    done = 0

    def __next__(self):
        try:
            return super().__next__()
        except StopIteration:
            self.done += 1
            if self.passes is not None and self.done >= self.passes:
                raise
            iter(self)
            return super().__next__()


def mixture(seed=$seed, shuffle=True):
    """Blocks of SEQUENCE_LENGTH ids, each from a group drawn by its weight."""
    parts = []
    for name, (_, passes) in GROUPS.items():
        part = Repeated(str(FOLDER / name), item_loader=TokensLoader(SEQUENCE_LENGTH), shuffle=shuffle, seed=seed)
        part.passes = passes
        parts.append(part)
    weights = [weight for weight, _ in GROUPS.values()]
    return CombinedStreamingDataset(parts, seed=seed, weights=weights, iterate_over_all=False)
''')
