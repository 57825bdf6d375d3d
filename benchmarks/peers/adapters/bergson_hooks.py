"""bergson's scoring pass: `CollectorComputer` with an `InMemoryCollector` and a `Scorer`, its exported classes.

Configured: no projection, no preconditioner, mean loss, the query given as dense gradients, which is bergson's own
form; scores kept in memory instead of written to disk. Its command line and `collect_gradients` hand the collector
`model.base_model`, so they never score `lm_head`; here the collector is given the whole model, which forces it to.
Parameters are frozen so that backward stops below the first scored layer (bergson's own set-up goes down to the
embedding).
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import numpy as np
import torch
from bergson import CollectorComputer, GradientProcessor, IndexConfig, InMemoryCollector, Scorer
from bergson.score.score_writer import InMemorySequenceScoreWriter
from datasets import Dataset

from benchmarks.peers.case import CannotScore, Case, Score

DISTRIBUTION = "bergson"
NOTE = "head forced: its own passes are given the body alone, never lm_head"


def prepare(case: Case) -> Score:
    found = InMemoryCollector.discover_targets(case.model, set(case.query))
    missing = set(case.query) - set(found)
    if missing:
        raise CannotScore(f"finds no layer to hook at {', '.join(sorted(missing))}: it has no hook for nn.Embedding")
    case.freeze_below()
    data = Dataset.from_dict({"input_ids": case.documents.tolist()})
    config = IndexConfig(run_path=str(case.folder / "run"), loss_reduction="mean", projection_dim=0)
    config.partial_run_path.mkdir()

    def score() -> np.ndarray:
        writer = InMemorySequenceScoreWriter(len(case.documents), len(case.items))
        collector = InMemoryCollector(
            model=case.model,
            data=data,
            cfg=config,
            processor=GradientProcessor(projection_dim=None),
            target_modules=set(case.query),
            scorer=_scorer(case, writer),
        )
        CollectorComputer(
            case.model, data, collector=collector, batches=case.batches, cfg=config
        ).run_with_collector_hooks()
        return writer.scores.numpy()

    return score


def _scorer(case: Case, writer: InMemorySequenceScoreWriter) -> Scorer:
    gradients = {name: r.flatten(1) for name, r in case.query.items()}  # [m, rows * columns]
    return Scorer(gradients, list(gradients), writer, torch.device("cpu"), torch.float32)
