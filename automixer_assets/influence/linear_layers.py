"""Linear layers inside the body: finding them by name, and recording what their gradients are made of.

A layer y_t = W x_t + b has the gradient sum_t delta_t x_t^T with delta_t = d loss / d y_t; GPT-2's Conv1D keeps W
transposed, so there the two change places. Biases are no layers of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LAST_BLOCK = "last_block"


@dataclass(frozen=True)
class Tap:
    """One call of a recorded layer within a forward pass."""

    layer: str
    transposed: bool  # the weight is [in, out], as in GPT-2's Conv1D
    input: Tensor  # [B, T, in]
    output: Tensor  # [B, T, out], part of the graph

    def factors(self, delta: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
        """(left [B, T, rows], right [B, T, columns]): the weight's gradient [rows, columns] is sum_t left_t right_t^T.

        `delta` is the gradient [B, T, out] at the output; it vanishes at padding.
        """
        delta, inputs = delta.to(dtype), self.input.to(dtype)
        return (inputs, delta) if self.transposed else (delta, inputs)


def find_linears(model: PreTrainedModel) -> dict[str, Any]:
    """Module name -> linear module (`nn.Linear` or `Conv1D`), in the model's order, the output matrix left out."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    }


def last_block_prefix(model: PreTrainedModel) -> str | None:
    """The module name of the last transformer block with a dot behind it; None where no list of blocks is found."""
    import torch

    depth = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return f"{name}.{len(module) - 1}."
    return None


def chosen_linears(names: Sequence[str], linears: Mapping[str, Any], last_block: str | None) -> tuple[str, ...]:
    """The distinct linear layers among `names`, in the model's order; "last_block" stands for all of that block's.

    Raises AutomixerError naming what is unknown.
    """
    of_block = [name for name in linears if last_block is not None and name.startswith(last_block)]
    unknown = sorted(name for name in names if name not in linears and not (name == LAST_BLOCK and of_block))
    if unknown:
        example = f" such as {of_block[0]}" if of_block else ""
        raise AutomixerError(
            f"layers must be chosen from embedding, head, last_block or the model's linear modules{example}, "
            f"not {', '.join(unknown)}"
        )
    wanted = {*names, *(of_block if LAST_BLOCK in names else ())}
    return tuple(name for name in linears if name in wanted)


@contextmanager
def recorded(linears: Mapping[str, Any], names: Sequence[str], shape: tuple[int, int]) -> Iterator[list[Tap]]:
    """Record every call of the named layers during a forward pass over [B, T] = `shape` tokens.

    Where nothing before the layer needs a gradient, the graph begins at its output: the blocks below cost no memory.

    Raises AutomixerError, from inside the forward pass, at a layer that does not see every token once.
    """
    taps: list[Tap] = []

    def record(name: str, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if tuple(inputs[0].shape[:-1]) != shape:
            raise AutomixerError(
                f"layer '{name}' does not run on every token of every text (a routed expert, say), so its gradient "
                "cannot be split by document: leave it out of layers"
            )
        if not output.requires_grad:
            output.requires_grad_(True)
        taps.append(Tap(name, _is_transposed(module), inputs[0].detach(), output))

    handles = [linears[name].register_forward_hook(partial(record, name)) for name in names]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _is_transposed(module: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)
