"""Figure 5 of the paper: what length, quality, sources and labels the documents of each decile of utility have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets import metadata
from automixer_assets.lake_asset import Metadata
from automixer_assets.mixture.deciles import DECILES, JOINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_VALUES = 8
MEANS = {
    "mean_tokens": "tokens",
    "mean_score": "quality score",
    "mean_int_score": "rounded score",
    "mean_language_score": "language score",
}
"""Columns of `deciles.parquet` and what a reader calls them; those without any value are not shown."""


def show_deciles(folder: Path) -> Metadata:
    """The plots beside `decile_tables`."""
    deciles = pl.read_parquet(folder / "deciles.parquet")
    if not _is_ranked(deciles):
        return {"deciles of utility": "none: every document has the same utility"}
    shares = pl.read_parquet(folder / "decile_shares.parquet")
    return {
        "length and quality by decile of utility, the most useful to the right (the paper's Figure 5)": metadata.plots(
            [_mean_drawing(deciles, column, name) for column, name in _present(deciles).items()]
        ),
        **{
            f"where the documents of each decile of joint utility come from, by {kind}": metadata.plot(
                _share_drawing(_of_joint(shares, kind))
            )
            for kind in shares["kind"].unique(maintain_order=True)
        },
    }


def decile_tables(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Titles and short tables, deciles from the least useful documents to the most; none where a version has none."""
    if not (folder / "deciles.parquet").exists():
        return
    deciles = pl.read_parquet(folder / "deciles.parquet")
    if _is_ranked(deciles):
        yield from _tables_by_decile(deciles, pl.read_parquet(folder / "decile_shares.parquet"))
    retrieval = pl.read_parquet(folder / "retrieval.parquet")
    if not retrieval.is_empty():
        yield (
            "are planted documents found, at the top share?",
            retrieval.select(
                "ranking",
                pl.col("n_planted").alias("planted"),
                pl.col("n_documents").alias("of"),
                "auc",
                pl.col("n_top").alias("top share"),
                "precision",
                pl.col("precision_by_chance").alias("by chance"),
                "recall",
            ),
        )


def _tables_by_decile(deciles: pl.DataFrame, shares: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for column, name in _present(deciles).items():
        yield f"mean {name} by decile of utility, 10 the most useful (Figure 5)", _grid(deciles, "ranking", column)
    for kind in shares["kind"].unique(maintain_order=True):
        yield (
            f"share of each {kind} in the deciles of joint utility, 10 the most useful",
            _share_grid(_of_joint(shares, kind)),
        )
        yield f"share of each {kind} in the most useful decile, by group", _top_grid(shares, kind)


def _is_ranked(deciles: pl.DataFrame) -> bool:
    """Whether utilities differ at all: those of a uniform mixture do not."""
    joint = deciles.filter(pl.col("ranking") == JOINT)
    return joint["mean_tokens"].count() > 1


def _present(deciles: pl.DataFrame) -> dict[str, str]:
    return {column: name for column, name in MEANS.items() if deciles[column].is_not_null().any()}


def _of_joint(shares: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Of the joint utility, the largest values by themselves and all others as one."""
    own = shares.filter(pl.col("ranking") == JOINT, pl.col("kind") == kind)
    sizes = (
        own.group_by("value").agg(pl.col("n_documents").sum()).sort("n_documents", "value", descending=[True, False])
    )
    largest = sizes["value"].head(SHOWN_VALUES).to_list()
    shown = pl.when(pl.col("value").is_in(largest)).then(pl.col("value")).otherwise(pl.lit("(others)"))
    merged = own.group_by("decile", shown.alias("value")).agg(pl.col("n_documents", "share_of_decile").sum())
    return merged.sort("value", "decile")


def _grid(table: pl.DataFrame, rows: str, values: str) -> pl.DataFrame:
    """A column per decile."""
    grid = table.sort("decile", maintain_order=True).pivot("decile", index=rows, values=values)
    order = table[rows].unique(maintain_order=True).to_list()
    return grid.sort(pl.col(rows).replace_strict(order, range(len(order)), return_dtype=pl.Int64))


def _share_grid(shares: pl.DataFrame) -> pl.DataFrame:
    percent = shares.with_columns(pl.format("{} %", (100 * pl.col("share_of_decile")).round(1)).alias("share"))
    return _grid(percent, "value", "share").with_columns(pl.exclude("value").fill_null("0.0 %"))


def _top_grid(shares: pl.DataFrame, kind: str) -> pl.DataFrame:
    """A row per ranking: what its most useful decile consists of, beside what all of its documents do."""
    own = shares.filter(pl.col("kind") == kind)
    sizes = own.group_by("ranking", "value", maintain_order=True).agg(pl.col("n_documents").sum())
    whole = sizes.with_columns(in_all=pl.col("n_documents") / pl.col("n_documents").sum().over("ranking"))
    top = own.filter(pl.col("decile") == DECILES).select("ranking", "value", "share_of_decile")
    both = whole.join(top, on=["ranking", "value"], how="left", maintain_order="left").with_columns(
        pl.col("share_of_decile").fill_null(0)
    )
    largest = both.sort("share_of_decile", "value", descending=[True, False]).group_by("ranking").head(SHOWN_VALUES)
    percent = [(100 * pl.col(name)).round(1) for name in ("share_of_decile", "in_all")]
    noted = largest.with_columns(pl.format("{} {} % ({} %)", "value", *percent).alias("note"))
    notes = noted.group_by("ranking").agg(pl.col("note").str.join(", ").alias("most useful decile (all documents)"))
    return own.select("ranking").unique(maintain_order=True).join(notes, on="ranking", maintain_order="left")


def _mean_drawing(deciles: pl.DataFrame, column: str, name: str) -> metadata.Drawing:
    def draw(axes: Axes) -> None:
        for number, (ranking,) in enumerate(deciles.select("ranking").unique(maintain_order=True).iter_rows()):
            own = deciles.filter(pl.col("ranking") == ranking)
            joint = ranking == JOINT
            color = "#333333" if joint else metadata.PALETTE[(number - 1) % len(metadata.PALETTE)]
            axes.plot(
                own["decile"], own[column], color=color, linewidth=2.4 if joint else 1.2, marker=".", label=ranking
            )
        axes.set_xlabel("decile of utility")
        axes.set_ylabel(f"mean {name}")
        axes.legend(fontsize=7)

    return draw


def _share_drawing(shares: pl.DataFrame) -> metadata.Drawing:
    def draw(axes: Axes) -> None:
        grid = shares.pivot("value", index="decile", values="share_of_decile").fill_null(0).sort("decile")
        bottom = [0.0] * grid.height
        for number, value in enumerate(grid.columns[1:]):
            color = metadata.PALETTE[number % len(metadata.PALETTE)]
            axes.bar(grid["decile"], grid[value], bottom=bottom, color=color, label=value)
            bottom = [below + own for below, own in zip(bottom, grid[value], strict=True)]
        axes.set_xlabel("decile of joint utility")
        axes.set_ylabel("share of its documents")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))

    return draw
