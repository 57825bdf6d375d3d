"""Inner products of the gradients of windows with directions, without keeping a gradient.

A window's gradient of a matrix is left^T right over its tokens: delta and hidden states for the output matrix, output
gradients and inputs for a linear layer of the body (`gradients.py`). Windows are spans of rows of left and right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from automixer_assets.influence.batches import Span
from automixer_assets.influence.memory import buffer_elements

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_ELEMENTS = 2**22
"""Largest block of gradients at a time (windows x rows of the matrix x columns): 16 MiB in float32."""
SPAN_TOKENS = 50
"""What one window's gradient costs beyond its products, in tokens: short products are slow, and so is contracting.
Measured on a CPU (V = 4096 and 32,768, d = 256 and 320, m = 2 and 8): 50 to 80."""


def inner_products(directions: Tensor, left: Tensor, right: Tensor, spans: Sequence[Span]) -> Tensor:
    """Inner product of each span's gradient with each direction: [P, m].

    Args:
        directions: [m, rows, columns].
        left: [n, rows], right: [n, columns]; the spans follow one another and cover the n rows.
    """
    import torch

    if by_token(len(directions), len(left), len(spans)):
        products = torch.stack([((left @ matrix) * right).sum(1) for matrix in directions], dim=1)  # [n, m]
        return sum_by_window(products, [span.stop - span.start for span in spans])
    dots = left.new_zeros(len(spans), len(directions))  # [P, m]
    flat = directions.flatten(1)  # [m, rows x columns]
    for part, block in gradient_blocks(left, right, spans):
        dots.addmm_(block, flat[:, part].T)
    return dots


def by_token(n_directions: int, n_tokens: int, n_spans: int) -> bool:
    """Whether left @ direction for every direction costs less than every span's gradient.

    The gradients cost as much as one direction does token by token, and then every further one is a dot product.
    """
    return (n_directions - 1) * n_tokens <= SPAN_TOKENS * n_spans


def gradient_blocks(left: Tensor, right: Tensor, spans: Sequence[Span]) -> Iterator[tuple[slice, Tensor]]:
    """(part, block [P, size]): that part of every span's flattened gradient [P, rows x columns], all parts in turn.

    The block is overwritten by the next one.
    """
    rows, columns = left.shape[1], right.shape[1]
    size = max(1, min(rows, buffer_elements(left.device, BLOCK_ELEMENTS) // (len(spans) * columns)))
    buffer = left.new_empty(len(spans), size, columns)
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        block = buffer[:, : stop - start]
        for index, span in enumerate(spans):
            tokens = slice(span.start, span.stop)
            block[index].addmm_(left[tokens, start:stop].T, right[tokens], beta=0)
        yield slice(start * columns, stop * columns), block.flatten(1)


def sum_by_window(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sums [P, m] of consecutive runs of `lengths` rows of values [n, m]; a run's sum depends on its own rows alone."""
    import torch

    return torch.segment_reduce(values, "sum", lengths=torch.tensor(lengths, device=values.device), axis=0)
