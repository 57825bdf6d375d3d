"""One process or several: all that changes when a run is spread over the ranks of torchrun.

A `World` of size 1 leaves everything as it is. With more, every rank holds the whole model (DDP), or a part of every
matrix and of its AdamW moments (FSDP2, for models that do not fit). Each rank takes its rows of the global batch;
gradients and losses are averaged, so that the run is the same up to float rounding; rank 0 writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class World:
    """The processes of a run as one of them sees them."""

    device: torch.device
    rank: int = 0
    size: int = 1
    sharded: bool = False

    @property
    def writes(self) -> bool:
        """True in the one process that writes files and reports progress."""
        return self.rank == 0

    def require_equal_shares(self, batch_size: int) -> None:
        if batch_size % self.size:
            raise AutomixerError(
                f"training.batch_size={batch_size} cannot be shared equally by {self.size} processes; "
                "start a number of processes that divides it"
            )

    def rows(self, batch: Any) -> Any:
        """This rank's rows of a batch [B, S]: [B / size, S]."""
        share = len(batch) // self.size
        return batch[self.rank * share : (self.rank + 1) * share]

    def spread(self, model: PreTrainedModel) -> torch.nn.Module:
        """The module to call instead of `model`, which is sharded in place or copied to every rank."""
        if self.size == 1:
            return model
        if self.sharded:
            return _shard(model, self)
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    @contextlib.contextmanager
    def gradient_exchange(self, module: Any, *, now: bool) -> Iterator[None]:
        """Around a forward and backward pass: gradients are averaged over the ranks only in the last one of a step."""
        if self.size == 1:
            yield
        elif self.sharded:
            module.set_requires_gradient_sync(now)
            yield
        else:
            with contextlib.nullcontext() if now else module.no_sync():
                yield

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a scalar over the ranks."""
        if self.size == 1:
            return value
        import torch.distributed as distributed

        total = value.clone()
        distributed.all_reduce(total)
        return total / self.size

    def gather(self, tensor: Any) -> torch.Tensor | None:
        """The whole of a tensor on the rank that writes, None elsewhere; every rank must call it."""
        whole = tensor.full_tensor() if self.sharded else tensor
        return whole.detach().cpu().contiguous() if self.writes else None

    def part(self, whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """What of a whole tensor belongs where this rank holds `like`."""
        if not self.sharded:
            return whole.to(like.device)
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(like, DTensor)
        # Every rank has read the same file: nothing needs to be sent.
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            import torch.distributed as distributed

            distributed.barrier()


def alone(device: torch.device | str | None = None) -> World:
    """One process on that device, by default the first CUDA device, else the CPU."""
    import torch

    from automixer_assets.proxy.model import automatic_device

    return World(torch.device(device) if device is not None else automatic_device())


@contextlib.contextmanager
def joined_world(*, sharded: bool = False) -> Iterator[World]:
    """The world that torchrun started this process in, or one process alone; NCCL on CUDA, gloo on the CPU."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield alone()
        return
    import torch
    import torch.distributed as distributed

    on_cuda = torch.cuda.is_available()
    if on_cuda:
        _require_a_device_each(int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count())
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_cuda else "gloo", device_id=device if on_cuda else None)
    try:
        yield World(device, distributed.get_rank(), size, sharded)
    finally:
        distributed.destroy_process_group()


def _require_a_device_each(processes: int, devices: int) -> None:
    if processes > devices:
        raise AutomixerError(
            f"{processes} training processes were started here, but {devices} CUDA devices are visible: start as many "
            "as there are devices (launchers.torchrun.processes, --nproc-per-node), or correct CUDA_VISIBLE_DEVICES"
        )


def _shard(model: PreTrainedModel, world: World) -> torch.nn.Module:
    """FSDP2: a unit per decoder layer, and one for what is left, where a tied matrix stays one parameter."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    layers: Any = model.model.layers  # pyright: ignore[reportAttributeAccessIssue]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    whole: Any = fully_shard(model, mesh=mesh)
    return whole
