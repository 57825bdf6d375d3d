"""The small real run's inputs: two snapshots of mixed text, and the eight tasks: python -m benchmarks.real_small

The source folder has `corpora/SOURCE.parquet` with columns text, id, source, licence (others are left aside) and
`benchmarks/TASK/SPLIT.jsonl` in the tasks' own field names. Written below `--out`: `snapshots/SNAPSHOT/SOURCE.parquet`
in FineWeb's columns and `benchmarks/TASK/SPLIT.jsonl`, where `configs/real-small.yaml` looks for them when `--out` is
the state folder's `real-small`.

Documents are sampled by a hash of their ids, at most `--per-source` of each source, so that no source outweighs the
others, and begin-cut to `--characters` at a space. The source stands in `file_path`, for asking later what was chosen.

In that order the first `--held-out` of each source go to `held_out.parquet` (for `targets.held_out`) and the next
`--skip` nowhere: a study made with `--skip 0 --per-source 100` and one with `--skip 100` share no document.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from automixer_assets.benchmark.prepare import prepare_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path

SNAPSHOTS = ("RS-2026-01", "RS-2026-02")
COLUMNS = ("text", "id", "source", "licence")


def main() -> None:
    """Write the snapshots and the tasks, and print documents and characters per source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with corpora/ and benchmarks/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--held-out", type=int, default=0, help="documents of each source that no snapshot gets")
    parser.add_argument("--skip", type=int, default=0, help="documents of each source to leave to another study")
    parser.add_argument("--per-source", type=int, default=800, help="documents of each source, at most")
    parser.add_argument("--characters", type=int, default=1000, help="characters of each document, at most")
    options = parser.parse_args()
    try:
        places = Places(options.held_out, options.skip, options.per_source)
        write_snapshots(options.data / "corpora", options.out, places, options.characters)
        prepare_tasks(str(options.data / "benchmarks"), options.out / "benchmarks")
    except AutomixerError as error:
        sys.exit(f"error: {error}")


@dataclass(frozen=True)
class Places:
    """How many documents of each source go where, in hash order: held out, to no one, into the snapshots."""

    held_out: int
    skip: int
    per_source: int


def write_snapshots(corpora: Path, out: Path, places: Places, characters: int) -> None:
    """One file per snapshot and source; which snapshot a document is in depends on its id alone."""
    held_out = []
    for source, documents in read_sources(corpora):
        ordered = in_hash_order(documents, characters)
        rows = ordered.slice(places.held_out + places.skip, places.per_source)
        held_out.append(ordered.head(places.held_out).select("text", source=pl.lit(source)))
        print(f"{source}: {rows.height:,} documents, {rows['text'].str.len_chars().sum():,} characters")
        for number, snapshot in enumerate(SNAPSHOTS):
            part = rows.filter(pl.col("place") % len(SNAPSHOTS) == number)
            with atomic_path(out / "snapshots" / snapshot / f"{source}.parquet") as temporary:
                fineweb_columns(part, snapshot).write_parquet(temporary)
    if places.held_out:
        with atomic_path(out / "held_out.parquet") as temporary:
            pl.concat(held_out).write_parquet(temporary)


def read_sources(corpora: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """(source, its documents) in name order; AutomixerError names a missing folder or column."""
    files = sorted(corpora.glob("*.parquet"))
    if not files:
        raise AutomixerError(f"{corpora} holds no Parquet files; give the folder above it to --data")
    for path in files:
        documents = pl.read_parquet(path)
        if missing := sorted(set(COLUMNS) - set(documents.columns)):
            raise AutomixerError(f"{path} has no column {missing[0]!r}; needed are {', '.join(COLUMNS)}")
        yield path.stem, documents.select(COLUMNS)


def in_hash_order(documents: pl.DataFrame, characters: int) -> pl.DataFrame:
    """The documents, cut, in the order of a hash of their ids, `place`: a stable number of each."""
    place = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") for key in documents["id"]]
    ordered = documents.with_columns(pl.Series("place", place, dtype=pl.Int64)).sort("place")
    cut = pl.col("text").str.slice(0, characters)
    whole = pl.col("text").str.len_chars() <= characters
    return ordered.with_columns(pl.when(whole).then("text").otherwise(cut.str.replace(r"\s+\S*$", "")).alias("text"))


def fineweb_columns(rows: pl.DataFrame, snapshot: str) -> pl.DataFrame:
    """FineWeb's columns; what no crawler measured here is null."""
    return rows.select(
        "text",
        "id",
        pl.lit(snapshot).alias("dump"),
        *(pl.lit(None, pl.String).alias(name) for name in ("url", "date", "language")),
        pl.col("source").alias("file_path"),
        pl.lit(None, pl.Float64).alias("language_score"),
        pl.lit(None, pl.Int64).alias("token_count"),
        "licence",
    )


if __name__ == "__main__":
    main()
