"""The mixture as an endless stream of documents, groups drawn with the probabilities of interleave.json.

Probabilities are of documents, not tokens: they are chosen so that tokens come out in the mixture's shares.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets import IterableDataset, interleave_datasets, load_dataset

FOLDER = Path(__file__).parent


def load_mixture(seed: int = 0, shuffle_buffer: int = 10_000) -> IterableDataset:
    """Columns id, text, url, licence, n_tokens; a group that runs out starts again."""
    groups = json.loads((FOLDER / "interleave.json").read_text())["groups"]
    return interleave_datasets(
        [_load_group(group, seed, shuffle_buffer) for group in groups],
        probabilities=[group["probability"] for group in groups],
        seed=seed,
        stopping_strategy="all_exhausted",
    )


def _load_group(group: dict, seed: int, shuffle_buffer: int) -> IterableDataset:
    files = [str(FOLDER / name) for name in group["files"]]
    documents = load_dataset("parquet", data_files=files, split="train", streaming=True)
    return documents.shuffle(seed=seed, buffer_size=shuffle_buffer).repeat(None)


if __name__ == "__main__":
    for document in load_mixture().take(5):
        print(document["id"], document["text"][:200])
