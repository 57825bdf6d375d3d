"""What kfac is: Kronecker factors from drawn labels, and solving with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from automixer_assets.influence import fit_query, kronecker, merge_queries, score_documents
from automixer_assets.influence.gradients import drawn_labels
from automixer_assets.influence.kronecker import KroneckerFactor, solve
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_agreement import assert_close, influence


def factor(rows: int, width: int, seed: int, zeros: int = 0) -> KroneckerFactor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(rows, generator=generator, dtype=torch.float64)
    scale[:zeros] = 0
    root = torch.randn(width, 3, generator=generator, dtype=torch.float64)  # rank 3: damping has work to do
    return KroneckerFactor(scale, root @ root.T)


@pytest.mark.parametrize("factors", [(factor(7, 5, 0),), (factor(7, 5, 0), factor(7, 5, 1, zeros=3))])
def test_solving_is_the_dense_inverse(factors: tuple[KroneckerFactor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    v = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    dense = sum(torch.kron(torch.diag(f.rows), f.columns) for f in factors) + 0.3 * torch.eye(35, dtype=torch.float64)
    expected = torch.linalg.solve(dense, v.flatten(1).T).T.reshape(v.shape)
    torch.testing.assert_close(solve(factors, 0.3, v), expected, rtol=1e-11, atol=1e-11)
    monkeypatch.setattr(kronecker, "SOLVED_ELEMENTS", 50)
    torch.testing.assert_close(solve(factors, 0.3, v), expected, rtol=1e-11, atol=1e-11)


def test_labels_follow_the_softmax() -> None:
    p = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    draws = torch.tensor(np.random.default_rng(0).random(20_000))
    labels = drawn_labels(p.expand(len(draws), -1), draws)[:, 0]
    assert torch.allclose(labels.bincount(minlength=4).double() / len(draws), p, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_that_rounds_up_to_one_takes_no_impossible_label(dtype: torch.dtype) -> None:
    p = torch.tensor([[0.1, 0.6, 0.3, 0.0]], dtype=dtype)
    assert drawn_labels(p, torch.ones(1, dtype=dtype)).item() == 2
    assert drawn_labels(p, torch.zeros(1, dtype=dtype)).item() == 0


@pytest.mark.parametrize("tied", [False, True])
def test_the_direction_does_not_depend_on_batches(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama(tied=tied)
    expected = fit_query(model, tiny.tasks(), tiny.reference(), curvature="kfac")
    monkeypatch.setattr("automixer_assets.influence.gradients.CHUNK_ELEMENTS", 0)
    monkeypatch.setattr("automixer_assets.influence.gradients.CHUNK_ROWS", 3)
    found = fit_query(model, tiny.tasks(), tiny.reference(), curvature="kfac", batch_tokens=13)
    for layer in expected.layers:
        torch.testing.assert_close(found.r[layer], expected.r[layer], rtol=1e-10, atol=1e-10)


def test_the_same_seed_gives_the_same_direction_and_another_another() -> None:
    model = tiny.llama()
    first, again, other = (
        fit_query(model, tiny.tasks(), tiny.reference(), curvature="kfac", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.r["head"], again.r["head"])
    assert not torch.equal(first.r["head"], other.r["head"])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("curvature", ["datainf", "kfac"])
def test_under_heavy_damping_the_direction_is_the_gradient(tied: bool, curvature: str) -> None:
    model = tiny.llama(tied=tied)
    query = fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature, damping=1e13)
    assert query.v is not None
    for layer in query.layers:
        scaled = query.r[layer] * query.directions[0].damping[layer]
        torch.testing.assert_close(scaled, query.v[layer], rtol=1e-5, atol=1e-9)


def test_kfac_is_one_more_column_of_the_same_pass() -> None:
    model, corpus = tiny.llama(), tiny.corpus()
    queries = {
        curvature: fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature)
        for curvature in ("datainf", "kfac")
    }
    merged = merge_queries(queries)
    assert merged.names[2:] == ("kfac_answers", "kfac_sequences")
    together = influence(score_documents(model, corpus, merged), merged)
    alone = influence(score_documents(model, corpus, queries["kfac"]), queries["kfac"])
    assert_close(together[:, 2:], alone, 1e-12)


def test_kfac_differs_from_the_plain_gradient_product_and_agrees_in_sign() -> None:
    model, corpus = tiny.llama(), tiny.corpus()
    scores = []
    for curvature in ("identity", "kfac"):
        query = fit_query(model, tiny.tasks(), tiny.reference(), curvature=curvature)
        scores.append(influence(score_documents(model, corpus, query), query)[:, 1])
    assert 0.3 < np.corrcoef(*scores)[0, 1] < 0.999
