"""Megatron-LM, Megatron Bridge, NeMo: one indexed dataset (`GROUP.bin`, `GROUP.idx`) per group, and the blends.

Layout of `.idx`, little-endian (megatron.core.datasets.indexed_dataset): 9 bytes `MMIDIDX` 00 00, uint64 version 1,
uint8 type code, uint64 documents, uint64 documents + 1; then int32 lengths, int64 byte offsets into `.bin`, and int64
0 ... documents, the first sequence of each document.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, ExportGroup, ExportPlan, Format, caps_note
from automixer_assets.export.source import ExportPart
from automixer_assets.files import atomic_path, write_atomically

TYPE_CODES = {"<u2": 8, "<u4": 4}
"""uint16; and int32, as Megatron has no uint32: ids below 2**31 have the same bytes."""
LENGTHS = "_lengths"
DOCUMENTS_AT_ONCE = 2**20


class Megatron(Format):
    """Weights are shares of sequences of one length, so of tokens."""

    name = "megatron"
    title = "Megatron-LM, Megatron Bridge and NeMo"
    reads = "tokens"
    unit = "sequences"

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        documents = tokens = 0
        with (folder / "tokens").open("wb") as ids, (folder / "lengths").open("wb") as lengths:
            for batch in part.token_batches():
                ids.write(batch.ids.data)
                lengths.write(batch.lengths.astype("<i4").data)
                documents, tokens = documents + len(batch.lengths), tokens + len(batch.ids)
        return Counts(documents, tokens)

    def part_path(self, part: ExportPart, name: str) -> str:
        raise AssertionError("every file is joined")

    def joined_path(self, part: ExportPart, name: str) -> str | None:
        return f"{part.label}.bin" if name == "tokens" else f"{LENGTHS}/{part.label}"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        if plan.encoding.vocab_size > 2**31:
            raise AutomixerError("Megatron's largest id type is int32: use a tokenizer of at most 2**31 ids")
        for group in plan.groups:
            lengths = np.memmap(internal / LENGTHS / group.label, dtype="<i4", mode="r")
            with atomic_path(out / f"{group.label}.idx") as temporary:
                write_index(temporary, lengths, plan.encoding.dtype)
        blend = [text for group in plan.groups for text in (_decimal(group.weight), _prefix(plan, group))]
        write_atomically(out / "blend.txt", (" ".join(blend) + "\n").encode())
        # All three keys must be there; null means that the split is not used.
        splits = {"train": blend, "valid": None, "test": None}
        write_atomically(out / "per_split.json", (json.dumps(splits, indent=1) + "\n").encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return f"Megatron starts a group again, reshuffled, and says nothing: {plan.repeated}.{caps_note(plan)}"

    def start(self, plan: ExportPlan) -> str:
        samples = plan.run_tokens // plan.sequence_length
        return (
            f"```\npython pretrain_gpt.py --data-args-path {plan.location}/blend.txt \\\n"
            f"  --split 100,0,0 --eval-iters 0 --seq-length {plan.sequence_length} --train-samples {samples} \\\n"
            f"  --tokenizer-type HuggingFaceTokenizer --tokenizer-model FOLDER_OF_THE_TOKENIZER ...\n```\n"
            "With validation data of your own, write its prefixes into `per_split.json` and use "
            f"`--per-split-data-args-path {plan.location}/per_split.json` "
            "in place of `--data-args-path` and `--split`. "
            "Megatron Bridge and NeMo take the same prefixes and weights as `blend` or `data_path`. "
            "A weight of zero makes Megatron fail, so groups without weight are not there."
        )


def write_index(path: Path, lengths: np.ndarray, dtype: str) -> None:
    """Write an `.idx` file for documents of the given lengths in tokens, [documents], in bounded memory."""
    with path.open("wb") as file:
        file.write(b"MMIDIDX\x00\x00")
        file.write(struct.pack("<QBQQ", 1, TYPE_CODES[dtype], len(lengths), len(lengths) + 1))
        for block in _blocks(lengths):
            file.write(block.astype("<i4").data)
        offset = 0
        for block in _blocks(lengths):
            ends = np.cumsum(block, dtype="<i8") * np.dtype(dtype).itemsize
            file.write((offset + np.concatenate([[0], ends[:-1]])).astype("<i8").data)
            offset += int(ends[-1])
        for first in range(0, len(lengths) + 1, DOCUMENTS_AT_ONCE):
            file.write(np.arange(first, min(first + DOCUMENTS_AT_ONCE, len(lengths) + 1), dtype="<i8").data)


def _blocks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(lengths), DOCUMENTS_AT_ONCE):
        yield lengths[first : first + DOCUMENTS_AT_ONCE]


def _prefix(plan: ExportPlan, group: ExportGroup) -> str:
    return str(plan.location / group.label)


def _decimal(weight: float) -> str:
    return format(weight, ".12g")
