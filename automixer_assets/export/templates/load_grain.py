"""The mixture as a Grain dataset of token ids, groups mixed with the weights of mixture.json."""

from __future__ import annotations

import json
from pathlib import Path

import grain
import numpy as np

FOLDER = Path(__file__).resolve().parent
MIXTURE = json.loads((FOLDER / "mixture.json").read_text())


def load_mixture(seed: int = 0) -> grain.MapDataset:
    """int32 arrays of `sequence_length` ids, as many as the run has; a group that runs out starts again, reshuffled."""
    groups = MIXTURE["groups"]
    mixed = grain.MapDataset.mix(
        [_load_group(group["name"], seed + number) for number, group in enumerate(groups)],
        [group["weight"] for group in groups],
    )
    return mixed[: MIXTURE["run_sequences"]].map(token_ids)


def _load_group(name: str, seed: int) -> grain.MapDataset:
    files = sorted(str(path) for path in (FOLDER / name).glob("*.array_record"))
    return grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files)).seed(seed).shuffle().repeat()


def token_ids(record: bytes) -> np.ndarray:
    """The ids of a tf.train.Example: its last `sequence_length` varints, of seven bits a byte, low ones first."""
    content = np.frombuffer(record, np.uint8)
    ends = np.flatnonzero(content < 128)[-MIXTURE["sequence_length"] - 1 :] + 1  # the header's, then the ids'
    place = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], np.diff(ends))
    bits = (content[ends[0] :] & 127).astype(np.int32) << (7 * place).astype(np.int32)
    return np.add.reduceat(bits, ends[:-1] - ends[0]).astype(np.int32)


if __name__ == "__main__":
    dataset = load_mixture()
    print(len(dataset), dataset[0])
