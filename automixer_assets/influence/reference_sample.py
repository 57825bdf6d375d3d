"""The reference sample under one model: what curvatures are fitted on.

What belongs here: running the sample, with the text's labels or drawn ones. What does not: what becomes of the pieces
of a gradient (see `reference_products.py`, `kronecker.py`), nor what a curvature does with the results (see
`curvature.py`). Scoring never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import Batch, Document, plan_by_document, plan_by_length
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.kronecker import KroneckerFactor, Moments
from automixer_assets.influence.language_model import LanguageModel
from automixer_assets.influence.reference_products import Products, WeightedSum

if TYPE_CHECKING:
    from torch import Tensor

    from automixer_assets.influence.curvature import Directions


@dataclass(frozen=True)
class ReferenceSample:
    """The reference documents under one model: implements `curvature.ReferenceGradients`."""

    model: LanguageModel
    documents: Sequence[Document]
    layers: tuple[str, ...]
    max_length: int
    batch_tokens: int
    seed: int
    on_tokens: Callable[[int], None]  # called after every batch with its predicted tokens

    @property
    def n_documents(self) -> int:
        return len(self.documents)

    @property
    def n_tokens(self) -> int:
        return sum(document.n_counted for document in self.documents)

    def remedy(self) -> str:
        return self.model.remedy()

    def products(self, directions: Directions) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        sink = Products.empty(self.model, self.documents, directions)
        self._run(sink)
        return sink.squared, sink.dots

    def weighted_sum(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sink = WeightedSum.empty(self.model, self.layers, weights)
        self._run(sink)
        return sink.total

    def _run(self, sink: Products | WeightedSum) -> None:
        for windows in plan_by_document(self.documents, self.max_length, self.batch_tokens, self.model.packed):
            batch = self.model.batch(windows, self.documents)
            self.on_tokens(len(differentiate(self.model, batch, sink.of_batch(batch))))

    def factors(self) -> dict[str, tuple[KroneckerFactor, ...]]:
        """Kronecker factors, every token's label drawn from the model's softmax and every token's loss of weight 1.

        Document i draws by numpy's default generator under [seed, i], token p by its p-th number: labels depend on
        neither batches nor the other documents.
        """
        documents = [replace(document, token_weight=1.0) for document in self.documents]
        draws = [np.random.default_rng([self.seed, i]).random(len(d.tokens)) for i, d in enumerate(documents)]
        moments = Moments.empty(self.model, self.layers)
        for windows in plan_by_length(documents, self.max_length, self.batch_tokens, self.model.packed):
            batch = self.model.batch(windows, documents)
            of_batch = np.concatenate([draws[w.document][w.start + 1 : w.stop] for w in windows])  # [P]
            nll = differentiate(self.model, batch, moments, draws=batch.weights.new_tensor(of_batch))
            self._refuse_nonfinite(nll, batch)
            self.on_tokens(len(nll))
        return moments.factors(self.n_tokens)

    def _refuse_nonfinite(self, nll: Tensor, batch: Batch) -> None:
        bad = (~nll.isfinite()).nonzero()  # [k, 1]
        if len(bad):
            window = int(np.searchsorted(np.cumsum(batch.row_counts), int(bad[0]), side="right"))
            raise AutomixerError(
                f"reference document {batch.documents[window]} has a non-finite loss: {self.model.remedy()}, "
                "or leave the document out"
            )
