"""What influence is: finite differences, linearity, the dense inverse, the sign, and independence of batch mates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from automixer_assets.influence import (
    InfluenceQuery,
    contraction,
    fit_query,
    gradients,
    merge_queries,
    reference_products,
    score_documents,
)
from automixer_assets.influence.batches import (
    Span,
    Window,
    plain_document,
    plan_by_document,
    plan_by_length,
    spans_in_chunks,
    windows_of,
)
from automixer_assets.influence.reference import slow_loss, slow_query
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_agreement import assert_close, influence


def fitted(model: PreTrainedModel, **options: str) -> InfluenceQuery:
    return fit_query(model, tiny.tasks(), tiny.reference(), **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("curvature", ["datainf", "kfac"])
@pytest.mark.parametrize("tied", [False, True])
def test_scores_are_minus_the_slope_of_the_document_s_loss_along_r(tied: bool, curvature: str) -> None:
    model = tiny.llama(tied=tied).eval()
    query = fitted(model, curvature=curvature)
    expected = influence(score_documents(model, tiny.corpus(), query), query)[:, 0]
    step = 1e-4 / max(float(query.r[layer][0].norm()) for layer in query.layers)

    def losses(signed_step: float) -> np.ndarray:
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for layer in query.layers:
                tiny.matrices(moved)[layer].add_(query.r[layer][0], alpha=signed_step)
            return np.array([slow_loss(moved, ids, [True] * len(ids)).item() for ids in tiny.corpus()])

    assert_close(-(losses(step) - losses(-step)) / (2 * step), expected, 1e-6)


def test_linear_layers_score_the_slope_along_r() -> None:
    model = tiny.gpt2().eval()
    query = fit_query(model, tiny.tasks(), tiny.reference(), layers=("embedding", "last_block"))
    expected = influence(score_documents(model, tiny.corpus(), query), query)[:, 0]
    step = 1e-5 / max(float(query.r[layer][0].norm()) for layer in query.layers)

    def losses(signed_step: float) -> np.ndarray:
        moved = copy.deepcopy(model)
        weights = {**dict(moved.named_parameters()), "embedding.weight": tiny.matrices(moved)["embedding"]}
        with torch.no_grad():
            for layer in query.layers:
                weights[f"{layer}.weight"].add_(query.r[layer][0], alpha=signed_step)
            return np.array([slow_loss(moved, ids, [True] * len(ids)).item() for ids in tiny.corpus()])

    assert_close(-(losses(step) - losses(-step)) / (2 * step), expected, 1e-5)


def test_r_is_the_mean_of_dense_inverses_times_v() -> None:
    model = tiny.llama().eval()
    query, slow = fitted(model), slow_query(model, tiny.tasks(), tiny.reference())
    for layer, damping in slow.lambda_.items():
        gradients_of = [
            slow_query(model, {"one": [tiny.whole(ids)]}, [], curvature="identity").v["one"][layer].flatten()
            for ids in tiny.reference()
        ]
        v = slow.v["answers"][layer].flatten()
        identity = torch.eye(len(v), dtype=torch.float64)
        solved = [torch.linalg.solve(damping * identity + torch.outer(g, g), v) for g in gradients_of]
        torch.testing.assert_close(query.r[layer][0].flatten(), torch.stack(solved).mean(0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layers", [("embedding", "head"), ("head", "last_block")])
@pytest.mark.parametrize("tied", [False, True])
def test_scores_do_not_depend_on_batch_mates_size_or_order(
    tied: bool, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, corpus = tiny.llama(tied=tied), tiny.corpus()
    query = fit_query(model, tiny.tasks(), tiny.reference(), layers=layers)
    expected = influence(score_documents(model, corpus, query), query)
    alone = [influence(score_documents(model, [ids], query), query)[0] for ids in corpus]
    assert_close(np.stack(alone), expected, 1e-12)
    backwards = influence(score_documents(model, corpus[::-1], query), query)[::-1]
    assert_close(backwards, expected, 1e-12)
    monkeypatch.setattr(gradients, "CHUNK_ELEMENTS", 0)
    monkeypatch.setattr(gradients, "CHUNK_ROWS", 5)
    monkeypatch.setattr(contraction, "BLOCK_ELEMENTS", 64)
    for batch_tokens in (1, 17, 60):
        found = influence(score_documents(model, corpus, query, batch_tokens=batch_tokens), query)
        assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("layers", [("embedding", "head"), ("head", "last_block")])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("span_tokens", [0, 50, 10_000])
def test_the_query_does_not_depend_on_its_batches(
    tied: bool, layers: tuple[str, ...], span_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents whole or cut by chunks and batches, by gradients in blocks, token by token, or by Gram matrices."""
    model = tiny.llama(tied=tied)
    expected = fit_query(model, tiny.tasks(), tiny.reference(), layers=layers)
    monkeypatch.setattr(gradients, "CHUNK_ELEMENTS", 0)
    monkeypatch.setattr(gradients, "CHUNK_ROWS", 10)
    monkeypatch.setattr(contraction, "BLOCK_ELEMENTS", 64)
    for module in (contraction, reference_products):
        monkeypatch.setattr(module, "SPAN_TOKENS", span_tokens)
    found = fit_query(model, tiny.tasks(), tiny.reference(), layers=layers, batch_tokens=26)
    for layer in expected.layers:
        torch.testing.assert_close(found.r[layer], expected.r[layer], rtol=1e-10, atol=1e-10)


def test_float32_scores_do_not_depend_on_batch_mates() -> None:
    model, corpus = tiny.llama().float(), tiny.corpus()
    query = fitted(model)
    expected = influence(score_documents(model, corpus, query), query)
    alone = [influence(score_documents(model, [ids], query), query)[0] for ids in corpus]
    assert_close(np.stack(alone), expected, 1e-5)


def test_all_tasks_and_curvatures_in_one_pass_equal_single_passes() -> None:
    model, corpus = tiny.llama(), tiny.corpus()
    queries = {
        f"{curvature}_{text}": fit_query(model, {task: items}, tiny.reference(), curvature=curvature)
        for curvature in ("datainf", "identity")
        for text, (task, items) in zip(("answer", "sequence"), tiny.tasks().items(), strict=True)
    }
    merged = merge_queries(queries)
    assert merged.names[:2] == ("datainf_answer_answers", "datainf_sequence_sequences")
    together = influence(score_documents(model, corpus, merged), merged)
    single = [influence(score_documents(model, corpus, query), query)[:, 0] for query in queries.values()]
    assert_close(together, np.stack(single, axis=1), 1e-12)


def test_a_pooled_task_scores_the_weighted_sum_of_its_parts() -> None:
    model, corpus, tasks = tiny.llama(), tiny.corpus(), tiny.tasks()
    sizes = np.array([len(items) for items in tasks.values()])
    parts = fitted(model)
    pooled = fit_query(model, {"pooled": [item for items in tasks.values() for item in items]}, tiny.reference())
    expected = influence(score_documents(model, corpus, parts), parts) @ (sizes / sizes.sum())
    assert_close(influence(score_documents(model, corpus, pooled), pooled)[:, 0], expected, 1e-11)


@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
def test_pools_score_the_weighted_sums_of_their_tasks(curvature: str) -> None:
    model, corpus = tiny.llama(tied=True), tiny.corpus()
    pool = {"both": {"answers": 0.3, "sequences": 2.0}, "one": {"answers": -1.5}}
    parts = fitted(model, curvature=curvature)
    query = fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature, pool=pool)
    assert query.names == ("both", "one")
    assert [dict(direction.weights) for direction in query.directions] == list(pool.values())
    of_tasks = influence(score_documents(model, corpus, parts), parts)  # [n, 2]
    expected = of_tasks @ np.array([[0.3, -1.5], [2.0, 0.0]])
    assert_close(influence(score_documents(model, corpus, query), query), expected, 1e-11)


@pytest.mark.parametrize("curvature", ["datainf", "identity", "kfac"])
def test_negative_is_helpful_a_step_on_a_validation_item_lowers_its_loss(curvature: str) -> None:
    model = tiny.llama().eval()
    ids, mask = tiny.whole(tiny.documents([10], seed=77)[0])
    query = fit_query(model, {"task": [(ids, mask)]}, tiny.reference(), curvature=curvature)
    assert score_documents(model, [ids], query)["influence_task"][0].as_py() < 0
    before = slow_loss(model, ids, mask)
    steps = torch.autograd.grad(before, list(tiny.matrices(model).values()))
    with torch.no_grad():
        for matrix, gradient in zip(tiny.matrices(model).values(), steps, strict=True):
            matrix.sub_(1e-3 * gradient)
        assert slow_loss(model, ids, mask) < before


def test_influence_predicts_whether_a_step_on_a_document_lowers_the_validation_loss() -> None:
    model, corpus = tiny.llama().eval(), tiny.documents([6, 9, 12, 7, 11, 8], seed=5)
    items = tiny.tasks()["sequences"]
    query = fit_query(model, {"task": items}, [], curvature="identity")
    predicted = score_documents(model, corpus, query)["influence_task"].to_numpy()
    changes = []
    for ids in corpus:
        moved = copy.deepcopy(model)
        loss = slow_loss(moved, ids, [True] * len(ids))
        steps = torch.autograd.grad(loss, list(tiny.matrices(moved).values()))
        with torch.no_grad():
            for matrix, gradient in zip(tiny.matrices(moved).values(), steps, strict=True):
                matrix.sub_(1e-4 * gradient)
            after = np.mean([slow_loss(moved, *item).item() for item in items])
            changes.append(after - np.mean([slow_loss(model, *item).item() for item in items]))
    assert_close(np.array(changes) / 1e-4, predicted, 1e-2)


def test_dropout_is_off_while_scoring() -> None:
    model = tiny.gpt2()
    expected = score_documents(model.eval(), tiny.corpus(), fitted(model))
    found = score_documents(model.train(), tiny.corpus(), fitted(model))
    assert found.equals(expected)


def test_the_model_is_left_as_it_was() -> None:
    model = tiny.gpt2().train()
    frozen = next(model.parameters()).requires_grad_(False)
    fitted(model)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [p is not frozen for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())


@settings(deadline=None, max_examples=100)
@given(n_tokens=st.integers(0, 60), max_length=st.integers(2, 20))
def test_windows_predict_every_token_but_the_first_exactly_once(n_tokens: int, max_length: int) -> None:
    windows = windows_of(0, n_tokens, max_length)
    predicted = [position for w in windows for position in range(w.start + 1, w.stop)]
    assert predicted == list(range(1, n_tokens))
    assert all(2 <= w.stop - w.start <= max_length for w in windows)


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=12),
    batch_tokens=st.integers(1, 60),
    packed=st.booleans(),
    plan_by=st.sampled_from([plan_by_length, plan_by_document]),
)
def test_a_plan_holds_every_window_once_and_fills_batches_up_to_the_limit(
    lengths: list[int], batch_tokens: int, packed: bool, plan_by: Callable[..., list[list[Window]]]
) -> None:
    documents = [plain_document([0] * length, "mean", "document") for length in lengths]
    expected = [window for i, length in enumerate(lengths) for window in windows_of(i, length, 9)]
    plan = plan_by(documents, 9, batch_tokens, packed)

    def inputs(windows: list[Window]) -> int:
        sizes = [window.n_inputs for window in windows]
        return sum(sizes) if packed else max(sizes) * len(sizes)

    assert sorted((w for batch in plan for w in batch), key=expected.index) == expected
    assert all(len(batch) == 1 or inputs(batch) <= batch_tokens for batch in plan)
    assert all(inputs([*batch, following[0]]) > batch_tokens for batch, following in pairwise(plan))
    if plan_by is plan_by_document:
        order = [window.document for batch in plan for window in batch]
        assert len([first for first, second in pairwise(order) if first != second]) == max(len(set(order)) - 1, 0)


@settings(deadline=None, max_examples=100)
@given(row_counts=st.lists(st.integers(0, 12), max_size=8), max_rows=st.integers(1, 15))
def test_chunks_cover_every_row_once_within_the_limit(row_counts: list[int], max_rows: int) -> None:
    chunks = list(spans_in_chunks(row_counts, max_rows))
    spans = [span for chunk in chunks for span in chunk]
    owners = [window for window, count in enumerate(row_counts) for _ in range(count)]
    assert [span.window for span in spans for _ in range(span.start, span.stop)] == owners
    assert [row for span in spans for row in range(span.start, span.stop)] == list(range(len(owners)))
    assert all(0 < chunk[-1].stop - chunk[0].start <= max_rows for chunk in chunks)
    assert all(len({span.window for span in chunk}) == len(chunk) for chunk in chunks)
    assert all(isinstance(span, Span) for span in spans)
