"""`MixtureDataset`: a mixture as a torch IterableDataset of int64 tensors [sequence_length].

The order is `stream.MixtureStream`'s, which needs no torch; this file only hands its arrays to a DataLoader. The class
is made when it is first asked for, so that importing this module leaves torch alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automixer_assets.mixture.stream import MixtureStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch.utils.data import IterableDataset

    class MixtureDataset(MixtureStream, IterableDataset[torch.Tensor]):
        """See `_mixture_dataset`."""

        def __iter__(self) -> Iterator[torch.Tensor]: ...  # pyright: ignore[reportIncompatibleMethodOverride]


def __getattr__(name: str) -> Any:
    if name != "MixtureDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _mixture_dataset()
    return globals()[name]


def _mixture_dataset() -> type:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    class MixtureDataset(MixtureStream, IterableDataset):
        """`MixtureStream` as tensors; arguments, state and sharding by rank are its own.

        Workers of a DataLoader share a rank's sequences among them. The state then lives in the workers, so for
        `state_dict` use `num_workers=0` or a loader that asks its workers for their state.
        """

        __qualname__ = "MixtureDataset"  # found by name when a worker process unpickles it

        def __iter__(self) -> Iterator[torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
            worker = get_worker_info()
            number, count = (worker.id, worker.num_workers) if worker else (0, 1)
            rank, world_size = self.rank + self.world_size * number, self.world_size * count
            return (torch.from_numpy(sequence) for sequence in self.sequences(rank, world_size))

    return MixtureDataset
