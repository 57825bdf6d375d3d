"""Peak memory of the passes over a model, in bytes; what else a process holds is not counted."""

from __future__ import annotations

from automixer_assets.influence.gradients import CHUNK_ELEMENTS, CHUNK_ROWS
from automixer_assets.planning.flops import Shape

FLOAT = 4
TRAINED_COPIES = 4
"""Weights, gradients, and AdamW's two moments."""


def activations(shape: Shape, precision: str = "float32") -> float:
    """What one token's backward pass keeps of the body: about 10 d + 4 f numbers per layer (d wide, f within)."""
    return shape.layers * (10 * shape.hidden + 4 * shape.intermediate) * (FLOAT if precision == "float32" else 2)


def training(shape: Shape, tokens: int, precision: str, *, recomputed: bool) -> float:
    """A micro-batch of so many tokens: activations, and its logits three times over (as they are, in float32, back)."""
    kept = activations(shape, precision) / (shape.layers if recomputed else 1)
    return TRAINED_COPIES * FLOAT * shape.parameters + tokens * (kept + 3 * FLOAT * shape.vocabulary)


def query(shape: Shape, directions: int) -> float:
    """r: m matrices of V x d per scored layer. What grows first: with m, with the vocabulary and with the width."""
    return FLOAT * directions * shape.scored_matrices * shape.head_weights


def scoring(shape: Shape, directions: int, batch_tokens: int) -> float:
    """Model, query, a batch's activations, a chunk of logits and a block of gradients."""
    chunk = max(CHUNK_ELEMENTS, min(CHUNK_ROWS, batch_tokens) * shape.vocabulary) + CHUNK_ELEMENTS
    model = FLOAT * shape.parameters
    return model + query(shape, directions) + batch_tokens * activations(shape) + FLOAT * chunk


def fitting(shape: Shape, directions: int, batch_tokens: int) -> float:
    """The same with v beside r."""
    return scoring(shape, directions, batch_tokens) + query(shape, directions)
