"""A removal list: documents that no mixture may use, named by id, URL or content hash.

A text file has one entry a line; blank lines and lines that begin with `#` are skipped. A CSV or Parquet file has a
column `id` (or `doc_id`), `url` or `content_hash`, or several of them: every filled cell is an entry of its own.
Entries match exactly, character by character; a content hash is the inventory's, in either case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path

Kind = Literal["id", "url", "content_hash"]
DeclaredKind = Literal["detect", "id", "url", "content_hash"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DOCUMENT_COLUMNS: dict[Kind, str] = {"id": "doc_id", "url": "url", "content_hash": "content_hash"}
COLUMN_KINDS: dict[str, Kind] = {"id": "id", "doc_id": "id", "url": "url", "content_hash": "content_hash"}
CONTENT_HASH = re.compile(r"[0-9a-fA-F]{32}")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
ENTRY_SCHEMA = {"kind": pl.String, "entry": pl.String, "line": pl.Int64}
REMOVED_SCHEMA = {
    "shard": pl.String,
    "row": pl.Int64,
    "doc_id": pl.String,
    "content_hash": pl.String,
    "kind": pl.String,
    "entry": pl.String,
}


def read_removal_list(path: Path, kind: DeclaredKind = "detect") -> pl.DataFrame:
    """The distinct entries of a removal list: `kind, entry, line` (the first that has it; of a table, its row).

    Args:
        kind: what the lines of a text file are. `detect` takes 32 hexadecimal digits for a content hash, what has a
            scheme (`https://`) for a URL, and anything else for an id.

    Raises:
        AutomixerError: no such file, not readable, no column that could name documents, an entry that is not of the
            declared kind, or no entry at all.
    """
    require_removal_list(path)
    table = _read_table(path) if path.suffix in (".csv", ".tsv", ".parquet") else _read_lines(path, kind)
    entries = table.with_columns(
        pl.when(pl.col("kind") == "content_hash")
        .then(pl.col("entry").str.to_lowercase())
        .otherwise("entry")
        .alias("entry")
    ).unique(["kind", "entry"], keep="first", maintain_order=True)
    if entries.is_empty():
        raise AutomixerError(f"removal list {path} has no entry: add some, or remove corpus.removal_list")
    return entries


def require_removal_list(path: Path) -> None:
    """Raise AutomixerError when there is no such file."""
    if not path.is_file():
        raise AutomixerError(f"removal list {path} does not exist: correct corpus.removal_list or remove that setting")


def match_documents(documents: pl.DataFrame, entries: pl.DataFrame) -> pl.DataFrame:
    """Which rows of a shard's documents are named by which entries: `row, doc_id, content_hash, kind, entry`."""
    numbered = documents.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), *DOCUMENT_COLUMNS.values())
    found = [
        numbered.join(
            entries.filter(pl.col("kind") == kind).select("kind", "entry"),
            left_on=column,
            right_on="entry",
            coalesce=False,
        )
        for kind, column in DOCUMENT_COLUMNS.items()
    ]
    return pl.concat(found).select("row", "doc_id", "content_hash", "kind", "entry").sort("row", "kind")


def write_removed(
    documents: Sequence[Path], entries: pl.DataFrame, out: Path, *, snapshot: str
) -> list[tuple[str, int]]:
    """Write `removed.parquet` (a row per document and entry that names it) and `unmatched.parquet` of a snapshot.

    Args:
        documents: the inventory's document shards, in order.

    Returns:
        The removed documents: (shard, row), ascending.

    Raises:
        AutomixerError: entries are URLs but no document of the snapshot has one.
    """
    found, with_url = [pl.DataFrame(schema=REMOVED_SCHEMA)], 0
    for path in documents:
        shard = pl.read_parquet(path, columns=list(DOCUMENT_COLUMNS.values()))
        with_url += shard["url"].count()
        found.append(match_documents(shard, entries).select(pl.lit(path.stem).alias("shard"), pl.all()))
    urls = entries.filter(pl.col("kind") == "url")
    if not with_url and not urls.is_empty():
        raise AutomixerError(
            f"the removal list names URLs (the first is {urls['entry'][0]!r}) but no document of snapshot {snapshot} "
            "has one: give ids or content hashes, or export the snapshot with its `url` column"
        )
    removed = pl.concat(found)
    unmatched = entries.join(removed, on=["kind", "entry"], how="anti").select("kind", "entry").sort("kind", "entry")
    for name, table in (("removed", removed), ("unmatched", unmatched)):
        with atomic_path(out / f"{name}.parquet") as temporary:
            table.write_parquet(temporary)
    return removed.select("shard", "row").unique().sort("shard", "row").rows()


def _read_lines(path: Path, kind: DeclaredKind) -> pl.DataFrame:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AutomixerError(
            f"removal list {path} cannot be read ({error}): write it as UTF-8 text, one entry a line, "
            "or as a .csv or .parquet file"
        ) from None
    numbered = ((number, line.strip()) for number, line in enumerate(lines, start=1))
    given = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    return _entries(path, [(_detected(line) if kind == "detect" else kind, line, number) for number, line in given])


def _read_table(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path)
        else:
            table = pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        first_line = str(error).strip().split("\n", maxsplit=1)[0]
        raise AutomixerError(f"removal list {path} cannot be read ({first_line}): export it again") from None
    named = [name for name in table.columns if name in COLUMN_KINDS]
    if not named:
        raise AutomixerError(
            f"removal list {path} has none of the columns {', '.join(map(repr, COLUMN_KINDS))} "
            f"(it has: {', '.join(table.columns)}): name the column that identifies documents so"
        )
    return _entries(path, list(_cells(path, table, named)))


def _cells(path: Path, table: pl.DataFrame, columns: Sequence[str]) -> Iterator[tuple[Kind, str, int]]:
    for name in columns:
        if table[name].dtype != pl.String:
            raise AutomixerError(
                f"removal list {path}: column {name!r} is {table[name].dtype}, not text: write it as text"
            )
        for row, value in enumerate(table[name], start=1):
            if value is not None and value.strip():
                yield COLUMN_KINDS[name], value.strip(), row


def _detected(entry: str) -> Kind:
    if CONTENT_HASH.fullmatch(entry):
        return "content_hash"
    return "url" if URL.fullmatch(entry) else "id"


def _entries(path: Path, entries: list[tuple[Kind, str, int]]) -> pl.DataFrame:
    for kind, entry, line in entries:
        if kind == "content_hash" and not CONTENT_HASH.fullmatch(entry):
            raise _wrong_kind(path, line, entry, "a content hash (32 hexadecimal digits)")
        if kind == "url" and not URL.fullmatch(entry):
            raise _wrong_kind(path, line, entry, "a URL (such as https://example.org/page)")
    return pl.DataFrame(entries, ENTRY_SCHEMA, orient="row")


def _wrong_kind(path: Path, line: int, entry: str, expected: str) -> AutomixerError:
    return AutomixerError(
        f"removal list {path}, line {line}: {entry[:80]!r} is not {expected}: correct it, or declare another kind"
    )
