"""Log-likelihoods of answers given questions: what lm-eval's `HFLM.loglikelihood` gives, for less work.

An item's options share their question. Each item is one row of a batch: the tokens that all options have in common
once, then each option's own tokens as a branch that sees the common ones and itself. Winogrande's options share the
sentence up to the blank. Rows do not depend on the checkpoint and are made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

EncodedOption = tuple[list[int], list[int]]
"""Token ids of (context, continuation), as `items.encode_pair` gives them."""

SHARING_MODELS = frozenset({"gpt2", "gpt_neox", "llama", "olmo", "olmo2", "qwen2", "qwen3"})
"""Model types that honour `position_ids` and a four-dimensional mask, by test; others get a row per option."""
WORTH_SHARING = 0.75
"""Share of the separate rows' tokens above which one long row with a mask is no gain."""
SHARED = 0
PADDING = -1


@dataclass(frozen=True)
class Target:
    """One predicted token: `column` of the row predicts `token` of option `option` of item `item`."""

    item: int
    option: int
    column: int
    token: int


@dataclass(frozen=True)
class Row:
    """One row of a batch. `branches[c]` is 0 in the shared part, else a number that columns of one option share."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]
    targets: tuple[Target, ...]

    @property
    def n_options(self) -> int:
        return len({target.option for target in self.targets})


@dataclass(frozen=True)
class Likelihood:
    """Sum of the continuation's log-probabilities in nats, and whether greedy decoding would give it."""

    nats: float
    greedy: bool


def plan_rows(items: Sequence[Sequence[EncodedOption]], max_length: int, *, share: bool) -> list[Row]:
    """Rows for the options of each item, longest first, ties in item order.

    Of a longer option the last `max_length` inputs stay, as in lm-eval. With `share` the options of an item become
    one row wherever that saves at least a quarter of the tokens.
    """
    rows: list[Row] = []
    for number, options in enumerate(items):
        inputs = [(context + answer)[:-1][-max_length:] for context, answer in options]
        answers = [answer for _, answer in options]
        prefix = _common_length(inputs) if share else 0
        shared = prefix + sum(len(ids) - prefix for ids in inputs)
        if share and shared <= WORTH_SHARING * sum(map(len, inputs)):
            rows.append(_row(number, range(len(inputs)), inputs, answers, prefix))
        else:
            rows += [_row(number, [option], inputs, answers, len(inputs[option])) for option in range(len(inputs))]
    return sorted(rows, key=lambda row: -len(row.token_ids))


def _common_length(sequences: list[list[int]]) -> int:
    """How many tokens all sequences begin with together."""
    differing = (place for place, tokens in enumerate(zip(*sequences, strict=False)) if len(set(tokens)) > 1)
    return next(differing, min(map(len, sequences)))


def _row(item: int, options: Sequence[int], inputs: list[list[int]], answers: list[list[int]], prefix: int) -> Row:
    token_ids, positions, branches = list(inputs[options[0]][:prefix]), list(range(prefix)), [SHARED] * prefix
    targets: list[Target] = []
    for option in options:
        ids, answer, begin = inputs[option], answers[option], len(token_ids)
        token_ids += ids[prefix:]
        positions += range(prefix, len(ids))
        branches += [option + 1] * (len(ids) - prefix)
        first = len(ids) - len(answer)
        for index, token in enumerate(answer, start=first):
            targets.append(Target(item, option, index if index < prefix else begin + index - prefix, token))
    return Row(tuple(token_ids), tuple(positions), tuple(branches), tuple(targets))


def shares_rows(model: PreTrainedModel) -> bool:
    """Whether options of one item may share a row in this model: no sliding window, positions given explicitly."""
    config: Any = model.config
    return config.model_type in SHARING_MODELS and not getattr(config, "use_sliding_window", False)


def log_likelihoods(model: PreTrainedModel, rows: Sequence[Row], batch_size: int) -> dict[tuple[int, int], Likelihood]:
    """Likelihood of every option by (item, option); `batch_size` is options per forward pass."""
    nats: dict[tuple[int, int], float] = {}
    greedy: dict[tuple[int, int], bool] = {}
    for batch in _batches(rows, batch_size):
        for target, value, likeliest in _predict(model, batch):
            key = (target.item, target.option)
            nats[key] = nats.get(key, 0.0) + value
            greedy[key] = greedy.get(key, True) and likeliest
    return {key: Likelihood(nats[key], greedy[key]) for key in nats}


def _batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[Row]]:
    """Consecutive rows with at most `batch_size` options together, or one row."""
    batch: list[Row] = []
    for row in rows:
        if batch and sum(part.n_options for part in batch) + row.n_options > batch_size:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _predict(model: PreTrainedModel, rows: Sequence[Row]) -> list[tuple[Target, float, bool]]:
    """(target, its log-probability, whether no token is likelier) for all targets of one batch."""
    import torch

    device = model.device
    targets = [(number, target) for number, row in enumerate(rows) for target in row.targets]
    columns = sorted({target.column for _, target in targets})
    place = {column: index for index, column in enumerate(columns)}
    at_row = torch.tensor([number for number, _ in targets], device=device)
    at_column = torch.tensor([place[target.column] for _, target in targets], device=device)
    tokens = torch.tensor([target.token for _, target in targets], device=device)
    logits = _logits(model, rows, torch.tensor(columns, device=device)).float()  # [B, U, V]
    chosen = logits[at_row, at_column, tokens]  # [N]
    values = (chosen - logits.logsumexp(dim=-1)[at_row, at_column]).tolist()
    likeliest = (chosen >= logits.amax(dim=-1)[at_row, at_column]).tolist()
    return [(target, *found) for (_, target), *found in zip(targets, values, likeliest, strict=True)]


def _logits(model: PreTrainedModel, rows: Sequence[Row], columns: torch.Tensor) -> torch.Tensor:
    """Logits [B, U, V] at the given columns; rows are padded on the right, where causality keeps padding unseen."""
    import torch

    device = model.device
    token_ids = _padded([row.token_ids for row in rows], 0).to(device)  # [B, T]
    options: dict[str, Any] = {"use_cache": False, "logits_to_keep": columns}
    if any(row.branches[-1] != SHARED for row in rows):
        branches = _padded([row.branches for row in rows], PADDING).to(device)  # [B, T]
        options["position_ids"] = _padded([row.positions for row in rows], 0).to(device)
        options["attention_mask"] = _mask(branches, model.dtype)
    call: Any = model
    with torch.inference_mode():
        return call(token_ids, **options).logits


def _mask(branches: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask [B, 1, T, T]: a column sees earlier columns that are shared or of its own branch."""
    import torch

    query, key = branches[:, :, None], branches[:, None, :]
    seen = ((key == SHARED) | (key == query)).tril()  # [B, T, T]
    blocked = torch.zeros(seen.shape, dtype=dtype, device=branches.device)
    return blocked.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _padded(sequences: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    import torch

    width = max(map(len, sequences))
    return torch.tensor([[*sequence, *[filler] * (width - len(sequence))] for sequence in sequences])
