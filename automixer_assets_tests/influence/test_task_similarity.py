"""The cosines of task gradients, against gradients that torch sums up itself."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from automixer_assets.influence.task_similarity import task_cosines
from automixer_assets_tests.influence.tiny import documents, gpt2, gpt_neox, llama, matrices, whole

TASKS = {
    "one": [whole(ids) for ids in documents([6, 9], seed=1)],
    "two": [whole(ids) for ids in documents([7, 5, 8], seed=2)],
    "one again": [whole(ids) for ids in documents([6, 9], seed=1)],
}


MODELS = {"llama": llama(), "tied": llama(tied=True), "gpt2": gpt2(), "gpt_neox": gpt_neox()}


@pytest.mark.parametrize("name", MODELS)
def test_cosines_are_those_of_the_mean_gradients(name: str) -> None:
    model = MODELS[name]
    found = {(task, other): cosine for task, other, cosine in task_cosines(model, TASKS).rows()}
    gradients = {task: mean_gradient(model, [ids for ids, _ in items]) for task, items in TASKS.items()}
    for task, other in ((task, other) for task in TASKS for other in TASKS):
        expected = torch.nn.functional.cosine_similarity(gradients[task], gradients[other], dim=0).item()
        assert found[task, other] == pytest.approx(expected, abs=1e-9)
    assert found["one", "one again"] == pytest.approx(1)
    assert abs(found["one", "two"]) < 0.999


def mean_gradient(model: PreTrainedModel, texts: list[list[int]]) -> torch.Tensor:
    model.eval()
    distinct = list({id(matrix): matrix for matrix in matrices(model).values()}.values())
    total = torch.zeros(sum(matrix.numel() for matrix in distinct), dtype=torch.float64)
    for ids in texts:
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss
        total += torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, distinct)])
    return total / len(texts)
