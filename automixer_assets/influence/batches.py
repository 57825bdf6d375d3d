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
    """W windows with N inputs together, of which P predict a counted token.

    The body sees them as one packed row (B = 1, T = N, no padding) or as one row each, padded on the right (B = W).
    """

    documents: list[int]  # [W] document of each window
    lengths: list[int]  # [W] inputs of each window; they sum to N
    ids: torch.Tensor  # [N] input ids, window after window
    inputs: torch.Tensor  # [B, T] the same as the body takes them
    positions: torch.Tensor | None  # [1, N] position of each input in its window where packed, else None
    places: torch.Tensor | None  # [N] flat position of each input in `inputs`; None: in order, without padding
    rows: torch.Tensor | None  # [P] which inputs predict a counted token; None: all
    targets: torch.Tensor  # [P] the token they predict
    weights: torch.Tensor  # [P] weight of its cross-entropy in the document's loss
    row_counts: list[int]  # [W] predicted tokens of each window; they sum to P

    def spans(self) -> list[Span]:
        """The inputs of each window, as spans of N rows."""
        ends = np.cumsum(self.lengths).tolist()
        return [Span(i, end - length, end) for i, (length, end) in enumerate(zip(self.lengths, ends, strict=True))]

    def of_inputs(self, padded: torch.Tensor) -> torch.Tensor:
        """What the body gave, [B, T, c], without its padding: [N, c], window after window."""
        flat = padded.flatten(0, 1)
        return flat if self.places is None else flat[self.places]

    def as_inputs(self, flat: torch.Tensor) -> torch.Tensor:
        """The inverse of `of_inputs`: [N, c] to [B, T, c], zero at padding."""
        if self.places is None:
            return flat.view(*self.inputs.shape, -1)
        padded = flat.new_zeros(self.inputs.numel(), flat.shape[1])
        padded[self.places] = flat
        return padded.view(*self.inputs.shape, -1)

    def of_rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of [N, c] the inputs that predict a counted token: [P, c]."""
        return inputs if self.rows is None else inputs[self.rows]

    def from_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The inverse of `of_rows`: [P, c] to [N, c], zero where nothing is predicted."""
        if self.rows is None:
            return rows
        inputs = rows.new_zeros(len(self.ids), rows.shape[1])
        inputs[self.rows] = rows
        return inputs


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


def plan_by_length(
    documents: Sequence[Document], max_length: int, batch_tokens: int, packed: bool
) -> list[list[Window]]:
    """Windows of all documents, longest first so that a lack of memory shows at once; at most `batch_tokens` inputs.

    Padding counts as inputs; a packed batch has none.
    """
    windows = [w for i, document in enumerate(documents) for w in windows_of(i, len(document.tokens), max_length)]
    windows.sort(key=lambda window: -window.n_inputs)  # stable: ties stay in document order
    return _cut(windows, batch_tokens, packed)


def plan_by_document(
    documents: Sequence[Document], max_length: int, batch_tokens: int, packed: bool
) -> list[list[Window]]:
    """As `plan_by_length`, but a document's windows follow one another, so that one document is open at a time."""
    per_document = [windows_of(i, len(document.tokens), max_length) for i, document in enumerate(documents)]
    per_document.sort(key=lambda windows: -sum(window.n_inputs for window in windows))
    return _cut([window for windows in per_document for window in windows], batch_tokens, packed)


def padding_share(plan: Sequence[Sequence[Window]]) -> float:
    """Share of the inputs of padded batches that is padding."""
    used = sum(window.n_inputs for batch in plan for window in batch)
    run = sum(len(batch) * max(window.n_inputs for window in batch) for batch in plan)
    return 1 - used / run if run else 0.0


def _cut(windows: list[Window], batch_tokens: int, packed: bool) -> list[list[Window]]:
    batches: list[list[Window]] = []
    widest = total = 0
    for window in windows:
        widest, total = max(widest, window.n_inputs), total + window.n_inputs
        size = len(batches[-1]) + 1 if batches else 0
        if size == 0 or (total if packed else widest * size) > batch_tokens:
            batches.append([])
            widest = total = window.n_inputs
        batches[-1].append(window)
    return batches


def build_batch(
    windows: list[Window], documents: Sequence[Document], *, packed: bool, dtype: torch.dtype, device: torch.device
) -> Batch:
    """Tensors of one batch, packed or padded; weights in `dtype`."""
    import torch

    lengths = [window.n_inputs for window in windows]
    tokens = [documents[w.document].tokens[w.start : w.stop].astype(np.int64) for w in windows]  # W of [n + 1]
    counted = [_counted_positions(documents[window.document], window) for window in windows]
    weights = [
        np.full(len(of_window), documents[window.document].token_weight)
        for window, of_window in zip(windows, counted, strict=True)
    ]
    starts = np.cumsum([0, *lengths])[:-1]  # [W]
    inputs, positions, places = _laid_out([ids[:-1] for ids in tokens], packed)

    def tensor(array: np.ndarray | None, dtype: torch.dtype = torch.int64) -> torch.Tensor | None:
        return None if array is None else torch.from_numpy(array).to(device=device, dtype=dtype)

    def joined(parts: Sequence[np.ndarray], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts)).to(device=device, dtype=dtype)

    every = sum(map(len, counted)) == sum(lengths)
    return Batch(
        documents=[window.document for window in windows],
        lengths=lengths,
        ids=joined([ids[:-1] for ids in tokens]),
        inputs=torch.from_numpy(inputs).to(device),
        positions=tensor(positions),
        places=tensor(places),
        rows=None if every else joined([start + of for start, of in zip(starts, counted, strict=True)]),
        targets=joined([ids[1:][of_window] for ids, of_window in zip(tokens, counted, strict=True)]),
        weights=joined(weights, dtype),
        row_counts=[len(of_window) for of_window in counted],
    )


def _laid_out(ids: list[np.ndarray], packed: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """`Batch.inputs`, `positions` and `places` of windows of input ids."""
    if packed:
        return np.concatenate(ids)[None], np.concatenate([np.arange(len(window)) for window in ids])[None], None
    width = max(map(len, ids))
    inputs = np.empty((len(ids), width), dtype=np.int64)  # [W, T]
    for index, window in enumerate(ids):
        # Padding repeats the window's own last token: a broken embedding of some fixed padding id would otherwise
        # turn into 0 x NaN in rows that have nothing to do with it.
        inputs[index, : len(window)], inputs[index, len(window) :] = window, window[-1]
    if all(len(window) == width for window in ids):
        return inputs, None, None
    return inputs, None, np.concatenate([index * width + np.arange(len(window)) for index, window in enumerate(ids)])


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
