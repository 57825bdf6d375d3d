"""Batches of token windows: which tokens are run together, which of them are predicted, and with what weight.

What belongs here: checking token ids, cutting documents at the context length, the batch plan.
What does not: models and gradients (see `gradients.py`). A plan depends on lengths and limits alone, so the same
documents under the same limits always meet the same batch mates and give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    import torch

Loss = Literal["mean", "sum"]
TokenIds = Sequence[int] | np.ndarray
"""Token ids of one document, [n]: a list, a numpy array or a CPU tensor of integers."""


@dataclass(frozen=True)
class Document:
    """One document with the loss that is differentiated: sum over counted tokens of `token_weight` x cross-entropy."""

    tokens: np.ndarray  # [n] integers
    counted: np.ndarray | None  # [n] bool, None: every token but the first
    token_weight: float

    @property
    def n_counted(self) -> int:
        """Predicted tokens that count; the first token is never predicted."""
        return max(len(self.tokens) - 1, 0) if self.counted is None else int(self.counted[1:].sum())


@dataclass(frozen=True)
class Window:
    """Tokens [start, stop) of a document: `start` is context only, the others are predicted."""

    document: int
    start: int
    stop: int

    @property
    def n_inputs(self) -> int:
        return self.stop - self.start - 1


@dataclass(frozen=True)
class Span:
    """Rows [start, stop) of a run of predicted tokens that belong to one window of the batch."""

    window: int
    start: int
    stop: int


@dataclass(frozen=True)
class Batch:
    """B windows, padded on the right to T inputs; `rows` names the N predicted tokens in window order."""

    documents: list[int]  # [B] document of each window
    inputs: torch.Tensor  # [B, T] token ids
    rows: torch.Tensor  # [N] flat positions (window * T + position) whose next token counts
    targets: torch.Tensor  # [N] the next token there
    weights: torch.Tensor  # [N] weight of its cross-entropy in the document's loss
    row_counts: list[int]  # [B] predicted tokens of each window; they sum to N


def plain_document(tokens: TokenIds, loss: Loss, where: str) -> Document:
    """A document whose every token but the first is predicted (paper, section 4); `where` names it in errors."""
    ids = _as_ids(tokens, where)
    n_predicted = max(len(ids) - 1, 1)
    return Document(tokens=ids, counted=None, token_weight=1 / n_predicted if loss == "mean" else 1.0)


def masked_document(tokens: TokenIds, mask: Any, loss: Loss, where: str) -> Document:
    """A document that counts only the predicted tokens where `mask` is True.

    The first token has no context, so its mask is without effect. Raises AutomixerError when the mask has another
    length than the tokens or leaves nothing to predict.
    """
    ids = _as_ids(tokens, where)
    counted = np.asarray(mask, dtype=bool)  # [n]
    if counted.shape != ids.shape:
        raise AutomixerError(
            f"{where} has {len(ids)} tokens but a loss mask of shape {list(counted.shape)}: give one flag per token"
        )
    n_counted = int(counted[1:].sum())
    if n_counted == 0:
        raise AutomixerError(f"{where} has no counted token after its first: mark what is predicted, or drop the item")
    return Document(tokens=ids, counted=counted, token_weight=1 / n_counted if loss == "mean" else 1.0)


class Vocabulary(Protocol):
    """What ids a model takes (see `language_model.py`)."""

    @property
    def vocabulary(self) -> int: ...

    @property
    def vocabulary_limit(self) -> str: ...


def check_vocabulary(documents: Sequence[Document], model: Vocabulary, name: Callable[[int], str]) -> None:
    """Raise AutomixerError naming the first document that holds an id outside the model's vocabulary."""
    for index, document in enumerate(documents):
        if len(document.tokens) == 0:
            continue
        lowest, highest = int(document.tokens.min()), int(document.tokens.max())
        if lowest < 0 or highest >= model.vocabulary:
            outlier = lowest if lowest < 0 else highest
            raise AutomixerError(
                f"{name(index)} holds token id {outlier}, "
                f"but the {model.vocabulary_limit} ends at {model.vocabulary - 1}: "
                "tokenise it with the tokenizer the model was trained with"
            )


def windows_of(index: int, n_tokens: int, max_length: int) -> list[Window]:
    """Cut at `max_length` tokens, overlapping by one, so every token but the document's first is predicted once."""
    starts = range(0, n_tokens - 1, max_length - 1)
    return [Window(index, start, min(start + max_length, n_tokens)) for start in starts]


def plan_by_length(documents: Sequence[Document], max_length: int, batch_tokens: int) -> list[list[Window]]:
    """Windows of all documents, longest first so that a lack of memory shows at once; at most `batch_tokens` padded."""
    windows = [w for i, document in enumerate(documents) for w in windows_of(i, len(document.tokens), max_length)]
    windows.sort(key=lambda window: -window.n_inputs)  # stable: ties stay in document order
    return _cut(windows, batch_tokens, max_windows=None)


def plan_by_document(
    documents: Sequence[Document], max_length: int, batch_tokens: int, max_windows: int
) -> list[list[Window]]:
    """As `plan_by_length`, but a document's windows follow one another, and a batch has at most `max_windows`.

    For passes that hold gradients of whole documents: few are open at a time.
    """
    per_document = [windows_of(i, len(document.tokens), max_length) for i, document in enumerate(documents)]
    per_document.sort(key=lambda windows: -sum(window.n_inputs for window in windows))
    return _cut([window for windows in per_document for window in windows], batch_tokens, max_windows)


def _cut(windows: list[Window], batch_tokens: int, max_windows: int | None) -> list[list[Window]]:
    batches: list[list[Window]] = []
    widest = 0
    for window in windows:
        widest = max(widest, window.n_inputs)
        size = len(batches[-1]) + 1 if batches else 0
        if size == 0 or widest * size > batch_tokens or (max_windows is not None and size > max_windows):
            batches.append([])
            widest = window.n_inputs
        batches[-1].append(window)
    return batches


def build_batch(
    windows: list[Window], documents: Sequence[Document], *, dtype: torch.dtype, device: torch.device
) -> Batch:
    """Tensors of one batch; weights in `dtype`."""
    import torch

    width = max(window.n_inputs for window in windows)
    inputs = np.empty((len(windows), width), dtype=np.int64)  # [B, T]
    rows, targets, weights = [], [], []
    for index, window in enumerate(windows):
        document = documents[window.document]
        tokens = document.tokens[window.start : window.stop].astype(np.int64)
        # Padding repeats the window's own last token: a broken embedding of some fixed padding id would otherwise
        # turn into 0 x NaN in rows that have nothing to do with it.
        inputs[index, : window.n_inputs], inputs[index, window.n_inputs :] = tokens[:-1], tokens[-1]
        positions = _counted_positions(document, window)
        rows.append(index * width + positions)
        targets.append(tokens[1:][positions])
        weights.append(np.full(len(positions), document.token_weight))
    return Batch(
        documents=[window.document for window in windows],
        inputs=torch.from_numpy(inputs).to(device),
        rows=torch.from_numpy(np.concatenate(rows)).to(device),
        targets=torch.from_numpy(np.concatenate(targets)).to(device),
        weights=torch.from_numpy(np.concatenate(weights)).to(device=device, dtype=dtype),
        row_counts=[len(positions) for positions in rows],
    )


def spans_in_chunks(row_counts: Sequence[int], max_rows: int) -> Iterator[list[Span]]:
    """Cut N rows into consecutive chunks of at most `max_rows`; only a window longer than that is split."""
    chunk: list[Span] = []
    start = 0
    for window, count in enumerate(row_counts):
        stop = start + count
        if chunk and stop - chunk[0].start > max_rows:
            yield chunk
            chunk = []
        while stop - start > max_rows:
            yield [Span(window, start, start + max_rows)]
            start += max_rows
        if stop > start:
            chunk.append(Span(window, start, stop))
        start = stop
    if chunk:
        yield chunk


def _counted_positions(document: Document, window: Window) -> np.ndarray:
    if document.counted is None:
        return np.arange(window.n_inputs)
    return np.flatnonzero(document.counted[window.start + 1 : window.stop])


def _as_ids(tokens: TokenIds, where: str) -> np.ndarray:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise AutomixerError(f"{where} must be a flat sequence of integer token ids, not {ids.dtype} {list(ids.shape)}")
    return ids
