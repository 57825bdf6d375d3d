"""How large snapshots and tasks are: from what is materialised, else from Parquet footers, else as given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.planning.workload import SnapshotSize, TaskSize, task_size

BYTES_PER_TOKEN, DOCUMENT_TOKENS = 4.5, 1000.0
"""Assumed of web text until a snapshot is tokenised: the paper's FineWeb-Edu has about as much."""
SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def tokenized_size(name: str, folder: Path) -> SnapshotSize:
    """Exact, of a tokenised snapshot; a character counts as a byte."""
    scanned = pl.scan_parquet(folder / "shard-*.parquet").select(
        pl.len(), pl.col("n_tokens").sum(), pl.col("n_characters").sum()
    )
    documents, tokens, characters = scanned.collect().row(0)
    return SnapshotSize(name, documents, tokens, characters, "tokenised", len(list(folder.glob("shard-*.parquet"))))


def inventoried_size(name: str, folder: Path, bytes_per_token: float) -> SnapshotSize:
    """Documents and characters of an inventory; tokens by the ratio of what is tokenised."""
    shards = list((folder / "documents").glob("*.parquet"))
    documents, characters = pl.scan_parquet(shards).select(pl.len(), pl.col("n_characters").sum()).collect().row(0)
    return SnapshotSize(name, documents, characters / bytes_per_token, characters, "inventoried", len(shards))


def footer_size(name: str, files: Sequence[Path], bytes_per_token: float) -> SnapshotSize:
    """From the footers of source files: rows, and the text column before compression.

    Raises:
        AutomixerError: a file is no Parquet, or has no column `text`.
    """
    rows, text_bytes = 0, 0
    for path in files:
        try:
            footer = pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise AutomixerError(f"{path} has no Parquet footer ({error}): copy it again") from None
        column = footer.schema.to_arrow_schema().get_field_index("text")
        if column < 0:
            raise AutomixerError(f"{path} has no column `text`: see docs/tables.md for what a snapshot holds")
        rows += footer.num_rows
        for group in range(footer.num_row_groups):
            text_bytes += footer.row_group(group).column(column).total_uncompressed_size
    return SnapshotSize(name, rows, text_bytes / bytes_per_token, text_bytes, "Parquet footers")


def given_size(text: str, bytes_per_token: float, document_tokens: float) -> SnapshotSize:
    """`NAME=1.3T` or `NAME=12B`, in tokens.

    Raises:
        ConfigurationError: it is not of that form, or not positive.
    """
    name, separator, amount = text.partition("=")
    number, factor = (amount[:-1], SUFFIXES[amount[-1]]) if amount[-1:] in SUFFIXES else (amount, 1.0)
    try:
        tokens = float(number) * factor
    except ValueError:
        tokens = 0.0
    if not (name and separator and 0 < tokens < float("inf")):
        raise ConfigurationError(f"{text!r} is not of the form SNAPSHOT=TOKENS, such as CC-MAIN-2026-10=1.3T")
    return SnapshotSize(name, tokens / document_tokens, tokens, tokens * bytes_per_token, "given")


def task_sizes(folder: Path) -> dict[str, TaskSize]:
    """The items of a `validation_items` artefact, by task."""
    items = pl.read_parquet(folder / "gradient_items.parquet", columns=["task", "token_ids", "answer_mask"])
    lengths = items.select(
        "task", pl.col("token_ids").list.len().alias("tokens"), pl.col("answer_mask").list.sum().alias("answers")
    )
    sets = pl.read_parquet(folder / "item_sets.parquet", columns=["task", "item_set"])
    counted = {(task, item_set): number for task, item_set, number in sets.group_by("task", "item_set").len().rows()}
    return {
        str(task): task_size(
            str(task),
            group["tokens"].to_list(),
            group["answers"].to_list(),
            gradient=group.height,
            selection=counted.get((task, "selection"), 0),
            final=counted.get((task, "final"), 0),
        )
        for (task,), group in lengths.group_by("task", maintain_order=True)
    }
