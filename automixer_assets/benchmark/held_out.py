"""What a model lost or won elsewhere: bits per byte of held-out text, per source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SCHEMA = {"source": pl.String, "n_documents": pl.Int64, "n_bytes": pl.Int64, "bits_per_byte": pl.Float64}


def read_held_out(path: Path) -> dict[str, list[str]]:
    """Source -> its texts, from a Parquet file with the columns `text` and `source`.

    Raises:
        AutomixerError: a column is missing, or there is no text.
    """
    if not path.is_file():
        raise AutomixerError(
            f"{path}, the held-out text of `targets.held_out`, does not exist: write it, or leave it out"
        )
    names = pl.read_parquet_schema(path)
    if missing := [name for name in ("text", "source") if name not in names]:
        raise AutomixerError(f"{path} has no column {missing[0]!r}; held-out text needs `text` and `source`")
    table = pl.read_parquet(path, columns=["source", "text"]).drop_nulls().filter(pl.col("text") != "")
    if table.is_empty():
        raise AutomixerError(f"{path} holds no text; held-out text needs at least one document")
    return {
        str(source): rows["text"].to_list()
        for (source,), rows in table.sort("source").group_by("source", maintain_order=True)
    }


def bits_per_byte(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: dict[str, list[str]],
    *,
    sequence_length: int,
    batch_size: int = 16,
) -> pl.DataFrame:
    """One row per source: the bits that the model needs per UTF-8 byte, each text in windows of its own.

    A text's first token, which nothing precedes, is not counted; every later one is predicted once, within its window.
    """
    from automixer_assets.proxy.tokenizer import encode_batch

    rows = []
    for source, documents in texts.items():
        windows = [
            ids[start : start + sequence_length]
            for ids in encode_batch(tokenizer, documents)
            for start in range(0, len(ids) - 1, sequence_length - 1)
        ]
        nats = _nats(model, sorted((window for window in windows if len(window) > 1), key=len), batch_size)
        n_bytes = sum(len(document.encode()) for document in documents)
        rows.append((source, len(documents), n_bytes, nats / math.log(2) / n_bytes))
    return pl.DataFrame(rows, SCHEMA, orient="row")


def _nats(model: PreTrainedModel, windows: Sequence[Sequence[int]], batch_size: int) -> float:
    """Sum over the tokens of all windows but each one's first."""
    import torch

    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            longest = max(map(len, batch))
            ids = torch.zeros(len(batch), longest, dtype=torch.long)  # [b, T]
            labels = torch.full((len(batch), longest), -100)  # [b, T]
            for row, window in enumerate(batch):
                ids[row, : len(window)] = labels[row, : len(window)] = torch.tensor(window)
            logits = (
                model(input_ids=ids.to(model.device)).logits[:, :-1].float()
            )  # [b, T - 1, V], causal: pads come last
            total += float(
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), labels[:, 1:].flatten().to(logits.device), ignore_index=-100, reduction="sum"
                )
            )
    return total
