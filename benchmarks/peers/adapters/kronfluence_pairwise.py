"""kronfluence's scoring loop, `kronfluence.score.dot_product.compute_dot_products_with_loader`.

That is what `Analyzer.compute_pairwise_scores` runs once a query's gradient is there; it is called directly, with the
dense query put where the analyzer leaves it, because the analyzer takes the query's gradient anew within the time, and
one direction per task from several texts would cost it one pass over the documents per task (kronfluence issue 40).
Configured: modules tracked by name, identity instead of EK-FAC, float32; it freezes all parameters by itself.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from kronfluence.analyzer import prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.module import TrackedModule
from kronfluence.module.utils import update_factor_args, update_score_args
from kronfluence.score.dot_product import compute_dot_products_with_loader
from kronfluence.task import Task
from kronfluence.utils.constants import ACCUMULATED_PRECONDITIONED_GRADIENT_NAME, ALL_MODULE_NAME
from kronfluence.utils.state import State
from torch.cuda.amp import GradScaler
from torch.utils.data import DataLoader

from benchmarks.peers.case import Case, Score, mean_loss

DISTRIBUTION = "kronfluence"
NOTE = "inner loop called directly: its analyzer takes query texts, no direction"


class LanguageModelling(Task):
    def __init__(self, modules: list[str]) -> None:
        self._modules = modules

    def compute_train_loss(self, batch: Any, model: torch.nn.Module, sample: bool = False) -> torch.Tensor:
        return mean_loss(model, batch).sum()

    def compute_measurement(self, batch: Any, model: torch.nn.Module) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self._modules


def prepare(case: Case) -> Score:
    task = LanguageModelling(list(case.query))
    model = prepare_model(case.model, task)  # raises where it has no wrapper for a module
    factor_arguments, score_arguments = FactorArguments(strategy="identity"), ScoreArguments()
    update_factor_args(model, factor_arguments)
    update_score_args(model, score_arguments)
    tracked = [module for module in model.modules() if isinstance(module, TrackedModule)]

    def score() -> np.ndarray:
        for module in tracked:  # the loop drops it at its end
            module.storage[ACCUMULATED_PRECONDITIONED_GRADIENT_NAME] = case.query[module.name]
        scores: Any = compute_dot_products_with_loader(
            model=model,
            task=task,
            state=State(cpu=True),
            train_loader=DataLoader(case.documents, batch_size=len(case.batches[0])),  # pyright: ignore[reportArgumentType]
            factor_args=factor_arguments,
            score_args=score_arguments,
            tracked_module_names=list(case.query),
            scaler=GradScaler(enabled=False),
            disable_tqdm=True,
        )
        return scores[ALL_MODULE_NAME].T.numpy()  # [n, m]

    return score
