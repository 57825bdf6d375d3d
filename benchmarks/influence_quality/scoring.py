"""Utility of every document for every task under every method; higher is better throughout."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from transformers import LlamaForCausalLM

from automixer_assets.files import atomic_path
from automixer_assets.influence import InfluenceQuery, fit_query, merge_queries, score_documents
from benchmarks.influence_quality.lexical import bm25, ngram_overlap
from benchmarks.influence_quality.retraining import train
from benchmarks.influence_quality.settings import StudySettings
from benchmarks.influence_quality.worlds import World

CURVATURES = {"DataInf": "datainf", "KFAC": "kfac", "GradDot": "identity"}
CHECKPOINTS = 4
BLENDS = ("DataInf", "KFAC")
SCHEMA = {"method": pl.String, "task": pl.String, "document": pl.Int64, "utility": pl.Float64}

Utilities = dict[str, np.ndarray]
"""Method -> [n, m]"""


def full_models(settings: StudySettings, world: World) -> list[LlamaForCausalLM]:
    """Checkpoints of one run on all documents, evenly spaced; the last is its end."""
    kept: list[LlamaForCausalLM] = []

    def keep(step: int, steps: int, model: LlamaForCausalLM) -> None:
        if step in {round(steps * (i + 1) / CHECKPOINTS) for i in range(CHECKPOINTS)}:
            kept.append(copy.deepcopy(model).eval())

    train(settings, world, np.arange(settings.documents), on_step=keep)
    return kept


def all_utilities(settings: StudySettings, world: World, models: Sequence[LlamaForCausalLM]) -> Utilities:
    """Influence at the last checkpoint and averaged over all, the controls, and blends of the two."""
    per_model = [influence_utilities(model, world) for model in models]
    utilities = {name: per_model[-1][name] for name in CURVATURES}
    for name in CURVATURES:
        utilities[f"{name}, {len(models)} checkpoints"] = np.mean([standardised(of[name]) for of in per_model], axis=0)
    utilities |= control_utilities(settings, world, loss=per_model[-1]["loss"])
    for name in BLENDS:
        utilities[f"BM25 + {name}"] = standardised(utilities["BM25"]) + standardised(utilities[name])
    return utilities


def influence_utilities(model: LlamaForCausalLM, world: World) -> Utilities:
    """Utility = -influence of each curvature (paper, section 4), all in one pass; and the `loss` of each document."""
    queries = {name: fitted(model, world, curvature) for name, curvature in CURVATURES.items()}
    return scored(model, world, queries)


def fitted(
    model: LlamaForCausalLM,
    world: World,
    curvature: str,
    damping: float = 0.1,
    layers: Sequence[str] = ("embedding", "head"),
) -> InfluenceQuery:
    """One direction per task from its items, the curvature from all documents."""
    items = {task.name: [(item.tokens, [True] * len(item.tokens)) for item in task.items] for task in world.tasks}
    reference = [document.tokens for document in world.documents]
    return fit_query(model, items, reference, curvature=curvature, damping=damping, layers=layers)


def scored(model: LlamaForCausalLM, world: World, queries: Mapping[str, InfluenceQuery]) -> Utilities:
    """Label -> [n, m] for each query, and `loss` [n, m], the same for every task."""
    table = score_documents(model, [document.tokens for document in world.documents], merge_queries(queries))
    utilities = {
        label: -np.stack([table[f"influence_{label}_{task.name}"].to_numpy() for task in world.tasks], axis=1)
        for label in queries
    }
    return {**utilities, "loss": for_every_task(table["loss"].to_numpy(), world)}


def control_utilities(settings: StudySettings, world: World, loss: np.ndarray) -> Utilities:
    """What needs no gradient: words, loss, length, chance."""
    documents = [document.text for document in world.documents]
    items = [[item.text for item in task.items] for task in world.tasks]
    lengths = np.array([len(document.tokens) for document in world.documents], dtype=float)
    generator = np.random.default_rng([settings.seed, 3])
    return {
        "BM25": bm25(documents, items),
        "n-gram": ngram_overlap(documents, items),
        "perplexity": -loss,
        "length": for_every_task(lengths, world),
        "random": generator.normal(size=loss.shape),
    }


def standardised(utility: np.ndarray) -> np.ndarray:
    """Zero mean and unit deviation over the documents, task by task."""
    return (utility - utility.mean(axis=0)) / np.maximum(utility.std(axis=0), 1e-12)


def for_every_task(values: np.ndarray, world: World) -> np.ndarray:
    return np.repeat(values[:, None], len(world.tasks), axis=1)  # [n, m]


def write_utilities(path: Path, utilities: Utilities, world: World) -> None:
    """A row per method, task and document, at once or not at all."""
    n, m = len(world.documents), len(world.tasks)
    names = [task.name for task in world.tasks]
    frames = [
        pl.DataFrame(
            {
                "method": [method] * (n * m),
                "task": np.repeat(names, n),
                "document": np.tile(np.arange(n), m),
                "utility": utility.T.flatten().astype(float),
            },
            schema=SCHEMA,
        )
        for method, utility in utilities.items()
    ]
    with atomic_path(path) as temporary:
        pl.concat(frames).write_parquet(temporary)


def read_utilities(path: Path, world: World) -> Utilities:
    """What `write_utilities` wrote."""
    table = pl.read_parquet(path)
    shape = len(world.tasks), len(world.documents)
    methods = table["method"].unique(maintain_order=True)
    return {method: table.filter(method=method)["utility"].to_numpy().reshape(shape).T for method in methods}
