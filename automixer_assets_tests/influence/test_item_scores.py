"""What an item contributes is what leaving it out, or drawing it twice, changes along the ordinary path."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from transformers import PreTrainedModel

from automixer_assets.errors import AutomixerError
from automixer_assets.influence import fit_query, score_documents, score_items
from automixer_assets.influence.reference import slow_query, slow_scores
from automixer_assets_tests.influence import tiny

MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": tiny.llama,
    "llama-tied": lambda: tiny.llama(tied=True),
    "gpt-neox": tiny.gpt_neox,
}
POOLS: dict[str, dict[int, float]] = {
    "tokens": {number: len(ids) / 100 for number, ids in enumerate(tiny.corpus())},
    "signed": {0: 1.0, 3: -2.0, 7: 0.5},
    "one": {4: 1.0},
}


def slow_pools(model: PreTrainedModel, items: Mapping[str, tiny.Items], curvature: str) -> dict[str, np.ndarray]:
    """Task -> [pools] weighted utility: full gradients, the paper's formulas, the items as they are given."""
    query = slow_query(model, items, tiny.reference(), curvature=curvature)
    scores = slow_scores(model, tiny.corpus(), query).numpy()  # [documents, tasks]
    weights = np.array([[pool.get(x, 0.0) for x in range(len(scores))] for pool in POOLS.values()])
    return dict(zip(query.r, -(weights @ scores).T, strict=True))


def contributions(model: PreTrainedModel, curvature: str) -> dict[str, np.ndarray]:
    return score_items(model, tiny.tasks(), POOLS, tiny.corpus(), tiny.reference(), curvature=curvature)


@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
@pytest.mark.parametrize("name", MODELS)
def test_items_left_out_or_drawn_twice_change_the_pools_as_their_contributions_say(name: str, curvature: str) -> None:
    model = MODELS[name]().eval()
    found = contributions(model, curvature)
    drawn = {"answers": [0, 0, 2], "sequences": [1, 2, 3, 3, 3]}
    for chosen in ({task: list(range(len(pairs))) for task, pairs in tiny.tasks().items()}, drawn):
        items = {task: [tiny.tasks()[task][number] for number in numbers] for task, numbers in chosen.items()}
        for task, expected in slow_pools(model, items, curvature).items():
            value = found[task][chosen[task]].mean(axis=0)
            assert np.abs(value - expected).max() <= 1e-9 * np.abs(found[task]).max()


def test_the_order_of_items_and_pools_is_the_one_given_and_half_the_corpus_adds_up() -> None:
    model = tiny.llama()
    halves = {"even": {0: 0.5, 4: 0.5}, "odd": {3: 1.0}}
    whole = {"all": {0: 0.5, 3: 1.0, 4: 0.5}}
    parts = score_items(model, tiny.tasks(), halves, tiny.corpus(), tiny.reference())
    total = score_items(model, tiny.tasks(), whole, tiny.corpus(), tiny.reference())
    assert {task: table.shape for task, table in parts.items()} == {"answers": (3, 2), "sequences": (4, 2)}
    for task, table in parts.items():
        assert table.sum(axis=1) == pytest.approx(total[task][:, 0], rel=1e-9)


def test_progress_ends_at_its_total_and_names_the_cost() -> None:
    ticks: list[tuple[int, int]] = []
    score_items(
        tiny.llama(),
        tiny.tasks(),
        {"one": {3: 1.0}},
        tiny.corpus(),
        tiny.reference(),
        on_progress=lambda done, total: ticks.append((done, total)),
    )
    predicted = [len(ids) - 1 for ids in tiny.reference()]
    items = sum(sum(mask[1:]) for pairs in tiny.tasks().values() for _, mask in pairs)
    assert ticks[-1] == (2 * sum(predicted) + len(tiny.corpus()[3]) - 1 + items,) * 2
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks)


def test_a_pool_without_a_predicted_token_is_refused_by_name() -> None:
    with pytest.raises(AutomixerError, match="pool 'short' has no document with a predicted token"):
        score_items(tiny.llama(), tiny.tasks(), {"short": {2: 1.0}}, tiny.corpus(), tiny.reference())


def test_it_is_the_ordinary_score_summed_up() -> None:
    """Fast path against fast path: the pools of what `score_documents` says."""
    model = tiny.llama()
    table = score_documents(model, tiny.corpus(), fit_query(model, tiny.tasks(), tiny.reference()))
    found = contributions(model, "datainf")
    for task in tiny.tasks():
        utilities = -table[f"influence_{task}"].to_numpy()
        expected = [sum(p * utilities[x] for x, p in pool.items()) for pool in POOLS.values()]
        assert found[task].mean(axis=0) == pytest.approx(expected, rel=1e-8)
