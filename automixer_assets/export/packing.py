"""Documents of a group packed into sequences of one length, for trainers whose weights count samples.

A group is one stream of ids, its parts in the manifest's order, cut every `sequence_length` ids. A part that ends
within a sequence leaves those ids to the next part, so that neither the cut nor the bytes depend on where an export was
resumed. What the last part leaves, less than a sequence, is not written and counted (`Counts.left_over`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets.export.format import Counts, ExportPlan
from automixer_assets.export.source import ExportPart
from automixer_assets.export.weights import group_tokens
from automixer_assets.files import write_atomically

CARRIED = "_carried"
"""The file in a part's folder with the ids that it leaves to the next part."""


def write_packed(
    part: ExportPart, folder: Path, suffix: str, shard_bytes: int, write_shard: Callable[[Path, np.ndarray], None]
) -> Counts:
    """Write a part's sequences [n, sequence_length] as files `00000SUFFIX`, ... of at most `shard_bytes` of ids."""
    size = max(1, shard_bytes // (part.sequence_length * np.dtype(part.dtype).itemsize))
    stream, n_sequences = _Stream(part, size), 0
    for number, sequences in enumerate(stream):
        write_shard(folder / f"{number:05d}{suffix}", sequences)
        n_sequences += len(sequences)
    stream.left_over.tofile(folder / CARRIED)
    return Counts(part.documents.height, n_sequences * part.sequence_length, len(stream.left_over))


class _Stream:
    """Sequences of a part, [size, sequence_length] at a time and fewer in the last; then `left_over` is known."""

    def __init__(self, part: ExportPart, size: int) -> None:
        self.left_over = part.carried
        self._part, self._capacity = part, size * part.sequence_length

    def __iter__(self) -> Iterator[np.ndarray]:
        held, n_held = [self.left_over], len(self.left_over)
        for batch in self._part.token_batches():
            held, n_held = [*held, batch.ids], n_held + len(batch.ids)
            if n_held >= self._capacity:
                ids = np.concatenate(held)
                whole = n_held // self._capacity * self._capacity
                yield from ids[:whole].reshape(
                    -1, self._capacity // self._part.sequence_length, self._part.sequence_length
                )
                held, n_held = [ids[whole:]], n_held - whole
        ids = np.concatenate(held)
        whole = n_held // self._part.sequence_length * self._part.sequence_length
        if whole:
            yield ids[:whole].reshape(-1, self._part.sequence_length)
        self.left_over = ids[whole:]


def run_sequences(plan: ExportPlan) -> dict[str, int]:
    """Whole sequences that the run takes from each group, by label: their sum is what the run's tokens hold."""
    total = plan.run_tokens // plan.sequence_length
    return group_tokens({group.label: group.share for group in plan.groups}, total)


def write_script(plan: ExportPlan, out: Path, script: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Write a loading script of `templates/`, and the `mixture.json` that it reads."""
    mixture = {
        "sequence_length": plan.sequence_length,
        "run_sequences": sum(run_sequences(plan).values()),
        "groups": groups,
    }
    write_atomically(out / "mixture.json", (json.dumps(mixture, indent=1) + "\n").encode())
    template = resources.files("automixer_assets") / "export" / "templates" / script
    write_atomically(out / script, template.read_bytes())
