"""What the plan says of memory, beside the tensors that a real pass keeps."""

from __future__ import annotations

import pytest
import torch

from automixer_assets.influence import fit_query
from automixer_assets.planning import memory
from automixer_assets.planning.flops import Shape
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.optimizer import token_loss
from automixer_assets.settings import Architecture

VOCABULARY, ROWS, LENGTH = 500, 4, 64
ARCHITECTURE = Architecture(
    hidden_size=128, intermediate_size=344, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2
)
SHAPE = Shape.of(ARCHITECTURE, VOCABULARY)


def _kept_bytes(model: torch.nn.Module) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = token_loss(model, torch.zeros(ROWS, LENGTH, dtype=torch.long), "float32")
    assert loss.requires_grad
    return sum(kept.values())


def test_what_a_backward_pass_keeps_is_about_what_the_plan_says():
    kept = _kept_bytes(build_model(ARCHITECTURE, VOCABULARY, LENGTH, seed=0).train())
    said = ROWS * LENGTH * (memory.activations(SHAPE) + 3 * memory.FLOAT * VOCABULARY)
    assert said == pytest.approx(kept, rel=0.35)


def test_a_query_is_as_large_as_its_directions():
    model = build_model(ARCHITECTURE, VOCABULARY, LENGTH, seed=0)
    items = {f"task_{k}": [([1, 2, 3], [True] * 3)] for k in range(3)}
    query = fit_query(model, items, [], curvature="identity")
    assert memory.query(SHAPE, 3) == sum(r.numel() * r.element_size() for r in query.r.values())


def test_recomputed_activations_leave_one_layer():
    def beyond_weights(*, recomputed: bool) -> float:
        state = memory.TRAINED_COPIES * memory.FLOAT * SHAPE.parameters
        logits = 1000 * 3 * memory.FLOAT * VOCABULARY
        return memory.training(SHAPE, 1000, "float32", recomputed=recomputed) - state - logits

    assert beyond_weights(recomputed=False) == pytest.approx(4 * beyond_weights(recomputed=True))
