"""The mixture as a LitData dataset of token blocks, groups drawn with the weights of mixture.json."""

from __future__ import annotations

import json
from pathlib import Path

from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset, TokensLoader

FOLDER = Path(__file__).resolve().parent
MIXTURE = json.loads((FOLDER / "mixture.json").read_text())


class Repeated(StreamingDataset):
    """A group that starts again, reshuffled, when it runs out: `passes` times in all, or without end."""

    passes: int | None = None
    finished = 0

    def __next__(self):
        try:
            return super().__next__()
        except StopIteration:
            self.finished += 1
            if self.finished == self.passes:
                raise
            iter(self)
            return super().__next__()


def load_mixture(seed: int = 0) -> CombinedStreamingDataset:
    """Tensors of `sequence_length` ids; the mixture ends when a group has been read `passes` times."""
    groups = MIXTURE["groups"]
    return CombinedStreamingDataset(
        [_load_group(group, seed) for group in groups],
        weights=[group["weight"] for group in groups],
        seed=seed,
        iterate_over_all=False,
    )


def _load_group(group: dict, seed: int) -> Repeated:
    loader = TokensLoader(block_size=MIXTURE["sequence_length"])
    dataset = Repeated(str(FOLDER / group["name"]), item_loader=loader, shuffle=True, seed=seed)
    dataset.passes = group["passes"]
    return dataset


if __name__ == "__main__":
    for batch in StreamingDataLoader(load_mixture(), batch_size=4):
        print(batch.shape, batch[:, :8])
        break
