"""The page that says why, and the same tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from automixer_assets import metadata
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata
from automixer_assets.mixture.characteristics import KINDS, SAMPLED_DOCUMENTS
from automixer_assets.pages.deciles import decile_tables, show_deciles

SHOWN_VALUES = 8
NOTABLE_Z = 1.96
"""Values below are not shown: such a difference comes up by chance in one of twenty comparisons."""
TABLES = ("characteristics", "quality", "examples", "leaked", "deciles", "decile_shares", "retrieval")


def show_group_characteristics(artifact: Artifact) -> Metadata:
    tables = dict(characteristics_tables(artifact.path))
    return {
        **{title: metadata.table(table) for title, table in tables.items()},
        **show_deciles(artifact.path),
        "how terms are counted": (
            f"in at most {SAMPLED_DOCUMENTS:,} documents of the corpus, a document once; ranked by the z-score of the "
            "log-odds with an informative Dirichlet prior (Monroe et al. 2008)"
        ),
        "SQL": metadata.sql(
            ["characteristic_values", "document_values", "document_numbers", "decile_sums", "planted_retrieval"]
        ),
    }


def characteristics_tables(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Titles and short tables, in the order in which a person asks."""
    for kind in KINDS:
        yield f"characteristic {kind}s", _values_by_group(folder, kind)
    yield "quality and length: mean (difference to the corpus in its standard deviations)", _quality(folder)
    yield "documents that repeat scored items, by source", _leaked(folder)
    yield from decile_tables(folder)
    yield "some documents", _examples(folder)


def characteristics_json(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The whole tables; those of deciles only where the version has them."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    return {name: pl.read_parquet(path).to_dicts() for name, path in files.items() if path.exists()}


def _values_by_group(folder: Path, kind: str) -> pl.DataFrame:
    """A row per group: its most characteristic values, with shares in the group and in the corpus."""
    values = pl.read_parquet(folder / "characteristics.parquet").filter(pl.col("kind") == kind)
    notable = values.filter(pl.col("z") > NOTABLE_Z, pl.col("rank") <= SHOWN_VALUES)
    shares = pl.format("{} ({} / {})", "value", _percent("share_in_group"), _percent("share_in_corpus"))
    named = notable.with_columns((pl.col("value") if kind == "term" else shares).alias("shown"))
    joined = named.group_by("group", maintain_order=True).agg(pl.col("shown").str.join(", "))
    column = f"{kind}s" if kind == "term" else f"{kind}s (share of group / of corpus)"
    groups = pl.read_parquet(folder / "quality.parquet").select("group").unique().sort("group")
    return groups.join(joined, on="group", how="left").rename({"shown": column})


def _percent(column: str) -> pl.Expr:
    return pl.format("{}%", (pl.col(column) * 100).round(1))


def _quality(folder: Path) -> pl.DataFrame:
    quality = pl.read_parquet(folder / "quality.parquet")
    cell = pl.format("{} ({})", pl.col("mean").round(2), pl.col("difference_in_sd").fill_null(0).round(2))
    return quality.with_columns(cell.alias("cell")).pivot("column_name", index="group", values="cell")


def _leaked(folder: Path) -> pl.DataFrame:
    leaked = pl.read_parquet(folder / "leaked.parquet").with_columns(pl.col("group").fill_null("(corpus)"))
    cell = pl.format("{} of {}", "n_leaked", "n_documents")
    return leaked.with_columns(cell.alias("cell")).pivot("source", index="group", values="cell")


def _examples(folder: Path) -> pl.DataFrame:
    examples = pl.read_parquet(folder / "examples.parquet")
    return examples.select("group", "chosen_by", "doc_id", "n_tokens", "utility", pl.col("text").str.slice(0, 160))
