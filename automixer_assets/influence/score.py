"""Score documents against a query: every direction in one pass, no gradient of a document kept (paper, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.batches import (
    Batch,
    Document,
    Span,
    TokenIds,
    Window,
    check_vocabulary,
    plain_document,
    plan_by_length,
)
from automixer_assets.influence.contraction import inner_products, sum_by_window
from automixer_assets.influence.gradients import differentiate
from automixer_assets.influence.language_model import EMBEDDING, HEAD, Backend, LanguageModel, opened
from automixer_assets.influence.memory import batch_tokens_on
from automixer_assets.influence.query import InfluenceQuery

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

OnNonfinite = Literal["raise", "quarantine"]
OnProgress = Callable[[int, int], None]
"""Called after every batch with (predicted tokens done, predicted tokens in all)."""


@dataclass(frozen=True)
class PassOptions:
    """How documents are run: `batch_tokens` None is 4096 on a CPU, more on a GPU; `max_length` None the context."""

    batch_tokens: int | None = None
    max_length: int | None = None
    on_nonfinite: OnNonfinite = "raise"
    backend: Backend | None = None


@dataclass(frozen=True)
class Scores:
    """One row per document, input order. Rows with a non-finite loss or score are NaN throughout."""

    influence: np.ndarray  # [n, m] the paper's sign: negative lowers the validation loss
    loss: np.ndarray  # [n] mean next-token loss
    n_tokens: np.ndarray  # [n] int64

    @property
    def quarantined(self) -> np.ndarray:
        """[n] bool: documents without a score."""
        return np.isnan(self.loss)


def score_documents(
    model: PreTrainedModel,
    documents: Sequence[TokenIds],
    query: InfluenceQuery,
    *,
    batch_tokens: int | None = None,
    max_length: int | None = None,
    on_nonfinite: OnNonfinite = "raise",
    on_progress: OnProgress | None = None,
    compile: bool = False,
    dtype: str | None = None,
) -> pa.Table:
    """Influence of each document on each direction of the query (paper, section 4, step 4), on the model's own device.

    `batch_tokens`, `compile` and `dtype` are as in `fit_query`; a pass may run otherwise than the fit did. A document
    longer than `max_length` is scored in windows that overlap by one token, averaged by predicted tokens. One without
    a predicted token (one token) has influence 0 and loss 0.

    Returns:
        Table in input order: influence_<direction> (negative is helpful; float64 for a float64 model, else float32),
        n_tokens (int64), loss (mean over predicted tokens, type as influence). Under `on_nonfinite="quarantine"` a
        document whose loss or score is not finite has nulls; else it raises.

    Raises:
        AutomixerError: a query of another model, ids outside the vocabulary, or a non-finite score; names the document.
    """
    scores = compute_scores(
        model,
        documents,
        query,
        PassOptions(batch_tokens, max_length, on_nonfinite, Backend(compile, dtype)),
        on_progress=on_progress,
        name=lambda index: f"document {index}",
    )
    columns = {f"influence_{name}": scores.influence[:, k] for k, name in enumerate(query.names)}
    null = scores.quarantined
    return pa.table(
        {
            **{name: pa.array(column, mask=null) for name, column in columns.items()},
            "n_tokens": pa.array(scores.n_tokens),
            "loss": pa.array(scores.loss, mask=null),
        }
    )


def compute_scores(
    model: PreTrainedModel,
    documents: Sequence[TokenIds],
    query: InfluenceQuery,
    options: PassOptions,
    *,
    on_progress: OnProgress | None,
    name: Callable[[int], str],
) -> Scores:
    """The arrays behind `score_documents`; `name` says which document an error is about."""
    prepared = [plain_document(tokens, _loss(query), name(index)) for index, tokens in enumerate(documents)]
    return score_prepared(model, prepared, query, options, on_progress=on_progress, name=name)


def score_prepared(
    model: PreTrainedModel,
    prepared: list[Document],
    query: InfluenceQuery,
    options: PassOptions,
    *,
    on_progress: OnProgress | None,
    name: Callable[[int], str],
) -> Scores:
    """The same for documents whose counted tokens are chosen already."""
    with opened(model, options.backend) as parts:
        check_vocabulary(prepared, parts, name)
        length = parts.max_length(options.max_length, max((len(document.tokens) for document in prepared), default=2))
        r = _directions(parts, query)
        plan = plan_by_length(prepared, length, batch_tokens_on(parts.device, options.batch_tokens), parts.packed)
        influence, loss = _run(parts, prepared, plan, r, len(query.names), on_progress)
    scores = _typed(influence, loss, prepared, parts.compute_dtype)
    bad = np.flatnonzero(scores.quarantined)
    if len(bad) and options.on_nonfinite == "raise":
        raise AutomixerError(
            f"{name(int(bad[0]))} has a non-finite loss or influence ({len(bad)} of {len(prepared)} documents do): "
            f"{parts.remedy()}, or pass on_nonfinite='quarantine' to leave such documents without a score"
        )
    return scores


def _run(
    model: LanguageModel,
    documents: Sequence[Document],
    plan: list[list[Window]],
    r: dict[str, Tensor],
    n_directions: int,
    on_progress: OnProgress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Influence [n, m] and mean loss [n] in float64; windows of a document add up."""
    influence = np.zeros((len(documents), n_directions))  # [n, m]
    loss = np.zeros(len(documents))  # [n]
    total, done = sum(document.n_counted for document in documents), 0
    for windows in plan:
        batch = model.batch(windows, documents)
        sink = _Contract(model, r, _zeros(model, len(windows), n_directions))
        nll = differentiate(model, batch, sink).double().cpu().numpy()  # [N]
        starts = np.concatenate([[0], np.cumsum(batch.row_counts)[:-1]])  # [B]; every window predicts something
        np.add.at(loss, batch.documents, np.add.reduceat(nll, starts))
        np.add.at(influence, batch.documents, -sink.dots.double().cpu().numpy())
        done += len(nll)
        if on_progress is not None:
            on_progress(done, total)
    return influence, loss / np.maximum([document.n_counted for document in documents], 1)


@dataclass(frozen=True)
class _Contract:
    """A gradient sink that keeps only r . gradient of each window: dots [B, m]."""

    model: LanguageModel
    r: dict[str, Tensor]  # layer -> [m, rows, columns]
    dots: Tensor  # [B, m]

    def wants_embedding(self) -> bool:
        return EMBEDDING in self.r

    def wanted_linears(self) -> tuple[str, ...]:
        return tuple(layer for layer in self.r if layer in self.model.linears)

    def head(self, delta: Tensor, hidden: Tensor, spans: Sequence[Span]) -> None:
        r = self.r.get(EMBEDDING if self.model.tied else HEAD)
        if r is not None:
            self.dots[[span.window for span in spans]] += inner_products(r, delta, hidden, spans)

    def embedding(self, batch: Batch, gradients: Tensor) -> None:
        import torch

        products = [(r[batch.ids] * gradients).sum(1) for r in self.r[EMBEDDING]]  # m of [N]
        self.dots.add_(sum_by_window(torch.stack(products, dim=1), batch.lengths))

    def linear(self, layer: str, batch: Batch, left: Tensor, right: Tensor) -> None:
        self.dots.add_(inner_products(self.r[layer], left, right, batch.spans()))


def _directions(model: LanguageModel, query: InfluenceQuery) -> dict[str, Tensor]:
    """r on the model's device and in its compute dtype; refuses a query whose matrices are not the model's."""
    expected = {layer: model.shape(layer) for layer in model.layers(query.layers)}
    given = {layer: tuple(tensor.shape[1:]) for layer, tensor in query.r.items()}
    if given != expected or query.tied != model.tied:
        raise AutomixerError(
            f"the query has {_tying(query.tied)} matrices {given}, but the model has {_tying(model.tied)} {expected}: "
            "score with the model it was fitted on"
        )
    return {layer: tensor.to(device=model.device, dtype=model.compute_dtype) for layer, tensor in query.r.items()}


def _typed(influence: np.ndarray, loss: np.ndarray, documents: list[Document], dtype: torch.dtype) -> Scores:
    import torch

    numpy_type = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and then counts as non-finite
        influence, loss = influence.astype(numpy_type), loss.astype(numpy_type)
    finite = np.isfinite(loss) & np.isfinite(influence).all(axis=1)  # [n]
    return Scores(
        influence=np.where(finite[:, None], influence, numpy_type(np.nan)),
        loss=np.where(finite, loss, numpy_type(np.nan)),
        n_tokens=np.array([len(document.tokens) for document in documents], dtype=np.int64),
    )


def _zeros(model: LanguageModel, *shape: int) -> Tensor:
    import torch

    return torch.zeros(shape, dtype=model.compute_dtype, device=model.device)


def _tying(tied: bool) -> str:
    return "tied" if tied else "untied"


def _loss(query: InfluenceQuery) -> Literal["mean", "sum"]:
    return "sum" if query.loss == "sum" else "mean"
