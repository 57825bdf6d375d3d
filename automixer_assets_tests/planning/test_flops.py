"""The plan's operations are those that the project's own passes run, as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from automixer_assets.influence import InfluenceQuery, fit_query, score_documents
from automixer_assets.planning import flops
from automixer_assets.planning.flops import Shape, Texts
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.optimizer import recompute_activations, token_loss
from automixer_assets.settings import Architecture
from automixer_assets.settings.presets import ARCHITECTURES
from automixer_assets_tests.planning.counting import Operations

VOCABULARY, CONTEXT, DOCUMENTS = 300, 128, 24
EIGENDECOMPOSITION = 9 * 64**3


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return Architecture(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=request.param,
    )


@pytest.fixture
def model(architecture: Architecture):
    return build_model(architecture, VOCABULARY, CONTEXT, seed=0)


@pytest.fixture
def shape(architecture: Architecture) -> Shape:
    return Shape.of(architecture, VOCABULARY)


def _counted(run: Callable[[], object]) -> int:
    with Operations() as operations:
        run()
    return operations.total


def _dense(lengths: list[int], predicted: int | None = None) -> Texts:
    return replace(Texts.of(lengths, predicted), causal=False)


def _documents(length: int) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, VOCABULARY, length + 1) for i in range(DOCUMENTS)]


def _items(directions: int) -> dict[str, list[tuple[np.ndarray, list[bool]]]]:
    return {f"task_{k}": [(np.arange(5) + k, [True] * 5)] for k in range(directions)}


def _query(model, directions: int) -> InfluenceQuery:
    return fit_query(model, _items(directions), [], curvature="identity")


def test_parameters_are_the_models(model, shape: Shape):
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_are_those_of_every_preset(name: str):
    architecture = Architecture.model_validate(name)
    assert Shape.of(architecture, 32_000).parameters == architecture.parameters(32_000)


def test_an_evaluation_is_a_forward_pass(model, shape: Shape):
    with torch.no_grad():
        counted = _counted(lambda: model(torch.zeros(3, 33, dtype=torch.long), logits_to_keep=5))
    assert counted == flops.evaluation(shape, _dense([33] * 3, predicted=15))


def test_training_is_forward_and_two_backward_products(model, shape: Shape):
    counted = _counted(lambda: token_loss(model, torch.zeros(3, 33, dtype=torch.long), "float32").backward())
    assert counted == flops.training(shape, _dense([33] * 3))


def test_recomputed_activations_cost_another_forward_pass(model, shape: Shape):
    recompute_activations(model.train())
    counted = _counted(lambda: token_loss(model, torch.zeros(3, 33, dtype=torch.long), "float32").backward())
    assert counted == flops.training(shape, _dense([33] * 3), recomputed=True)


@pytest.mark.parametrize(("directions", "length"), [(1, 40), (6, 40), (6, 5)], ids=["one", "gradients", "by token"])
def test_scoring(model, shape: Shape, directions: int, length: int):
    query, documents = _query(model, directions), _documents(length)
    opening = _counted(lambda: score_documents(model, [], query))
    counted = _counted(lambda: score_documents(model, documents, query, batch_tokens=4096)) - opening
    assert counted == flops.scoring(shape, _dense([length] * DOCUMENTS), directions)


def test_validation_gradients(model, shape: Shape):
    one, six = (_counted(lambda m=m: _query(model, m)) for m in (1, 6))
    assert six - one == flops.validation_gradients(shape, _dense([4] * 5))


@pytest.mark.parametrize(("directions", "length"), [(1, 40), (6, 40), (6, 5)], ids=["one", "gradients", "by token"])
def test_datainf_is_two_passes(model, shape: Shape, directions: int, length: int):
    items, documents = _items(directions), _documents(length)
    without = _counted(lambda: fit_query(model, items, documents, curvature="identity"))
    counted = _counted(lambda: fit_query(model, items, documents, curvature="datainf")) - without
    predicted = flops.datainf(shape, _dense([length] * DOCUMENTS), directions)
    if shape.tied:  # how many ids of a document are distinct is not known from its length
        assert counted <= predicted <= 1.01 * counted
    else:
        assert counted == predicted


def test_kfac_is_one_pass_and_a_solve(model, shape: Shape):
    items, documents = _items(6), _documents(40)
    without = _counted(lambda: fit_query(model, items, documents, curvature="identity"))
    counted = _counted(lambda: fit_query(model, items, documents, curvature="kfac")) - without
    solved = EIGENDECOMPOSITION * shape.scored_matrices  # torch counts no decomposition
    rows = VOCABULARY * (64**3 / 3 + 2 * 64**2 * 6) if shape.tied else 0
    assert counted == flops.kfac(shape, _dense([40] * DOCUMENTS), 6) - solved - rows


def test_causal_attention_counts_a_position_and_those_before_it():
    lengths = [1, 2, 7, 30]
    assert Texts.of(lengths).pairs == sum(t + 1 for length in lengths for t in range(length))
