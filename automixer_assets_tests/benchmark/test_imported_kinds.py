"""Every architecture that is imported goes on: benchmark table, selection, influence query, scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from automixer_assets.benchmark.runner import evaluate_checkpoints
from automixer_assets.benchmark.selection import select_checkpoints
from automixer_assets.benchmark.tasks import LoadedTask
from automixer_assets.influence import fit_query, score_documents
from automixer_assets.lake import Lake
from automixer_assets.proxy.checkpoints import checkpoint_key
from automixer_assets.proxy.imported import import_checkpoints
from automixer_assets.proxy.imported_run import ImportedRun
from automixer_assets.proxy.imported_stores import DirectoryStore
from automixer_assets.proxy.model import load_model
from automixer_assets.proxy.tokenizer import encode_batch, load_tokenizer
from automixer_assets.settings import CheckpointSource, Recipe
from automixer_assets_tests.proxy.repositories import KINDS, write_repository

STEPS = (100, 200, 400)
TEXTS = ["The river and the stone hold a lamp.", "What does the winter letter say?", "bread " * 30, "a copper garden"]


@pytest.mark.parametrize("kind", KINDS)
def test_imported_checkpoints_are_evaluated_selected_and_score_documents(
    kind: str, tmp_path: Path, tokenizer_folder: Path, load: Callable[..., dict[str, LoadedTask]]
) -> None:
    folder = write_repository(tmp_path / "published", kind, STEPS, tokenizer_folder)
    source, store = CheckpointSource(directory=str(folder), pattern="step{step}"), DirectoryStore(folder)
    (tmp_path / "run").mkdir()
    import_checkpoints(source, store, tmp_path / "run")
    run = ImportedRun(tmp_path / "run")
    tables = evaluate_checkpoints(
        {checkpoint_key("p", step): run.open(step, store) for step in run.steps},
        load(names=["three"]),
        total_steps=run.total_steps,
        lake=Lake(tmp_path / "lake"),
        tokenizer_folder=tokenizer_folder,
    )
    likelihoods = tables.benchmark["gold_nll"]
    assert likelihoods.is_finite().all()
    assert likelihoods.n_unique() == len(STEPS), "weights were exchanged between the checkpoints"
    recipe = Recipe.model_validate({"profile": "robust", "proxy": "p", "selection": "best_per_task"})
    (step,) = select_checkpoints(tables.benchmark, recipe, items=tables.items).selected["step"]
    assert step == tables.benchmark.sort("gold_nll")["step"][0]
    (tmp_path / "copy").mkdir()
    run.copy(step, store, tokenizer_folder, tmp_path / "copy")
    model, documents = load_model(tmp_path / "copy"), encode_batch(load_tokenizer(tmp_path / "copy"), TEXTS)
    items = [(ids, [i > 0 for i in range(len(ids))]) for ids in documents[:2]]
    query = fit_query(model, {"three": items}, reference=documents)
    scores = pl.from_arrow(score_documents(model, documents, query=query))
    assert isinstance(scores, pl.DataFrame)
    assert scores["influence_three"].is_finite().all()
    assert scores["influence_three"].n_unique() == len(TEXTS)
    assert max(scores["influence_three"][:2]) < 0, "a query's own texts help it (the paper's sign: negative)"
