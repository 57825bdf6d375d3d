"""What a person sees on an asset's page: tables, plots, SQL. Plots stay under 100 KB and tables short."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from automixer_assets.lake_path import opened
from automixer_assets.mixture.parquet import count_rows, read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Drawing = Callable[["Axes"], None]
MAX_TABLE_ROWS = 60
SAMPLED_ROWS = 200_000
BLOCKS = "▁▂▃▄▅▆▇█"
PALETTE = ("#2f6fdf", "#e07b39", "#3a9e6e", "#b8468f", "#8a6d3b", "#5f6b7a", "#c9a227", "#7a52c7", "#d1495b", "#2a9d8f")


def table(frame: pl.DataFrame) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """A short frame as a table, a longer one by its first rows, an empty one as the word `none`."""
    if frame.is_empty():
        return dg.MetadataValue.text("none")
    shown = frame.head(MAX_TABLE_ROWS)
    records = [
        dg.TableRecord(dict(zip(frame.columns, map(format_cell, row), strict=True))) for row in shown.iter_rows()
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in frame.columns])
    return dg.MetadataValue.table(records=records, schema=schema)


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve in one line of text, for where a plot is a click away: averages of `width` stretches, low to high.

    A stretch with a value that is null, NaN or infinite is a gap.
    """
    stretches = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    means = [sum(number(value) for value in part) / len(part) for part in stretches if len(part)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BLOCKS) - 1) / ((high - low) or 1)
    return "".join(BLOCKS[round((mean - low) * scale)] if math.isfinite(mean) else " " for mean in means)


def bar(share: float, width: int = 24) -> str:
    """A share of 1 as a bar of text."""
    return "█" * round(share * width) or "▏"


def format_cell(value: Any) -> str:
    """Numbers at readable precision, nulls as a dash, lists joined, no character that breaks a table."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3e}" if value != 0 and abs(value) < 1e-3 else f"{value:,.4g}"
    if isinstance(value, (list, tuple, pl.Series)):
        return ", ".join(format_cell(item) for item in value) or "–"
    return str(value).replace("|", "\\|").replace("\n", " ")


def sample(files: str | Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    """Columns of a table for plots and quantiles: every k-th row, so that memory does not grow with the corpus."""
    if not isinstance(files, str):
        return _sample_by_file(files, columns)
    scan = pl.scan_parquet(files)
    rows = scan.select(pl.len()).collect().item()
    step = max(1, -(-rows // SAMPLED_ROWS))
    return scan.select(columns).gather_every(step).collect(engine="streaming")


def _sample_by_file(files: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame:
    step = max(1, -(-count_rows(files) // SAMPLED_ROWS))
    pieces, first = [], 0
    for path in files:
        with opened(path) as file:
            table = read_columns(file, columns)
        pieces.append(pl.DataFrame(table).gather_every(step, first))
        first = (first - table.num_rows) % step
    return pl.concat(pieces)


def histogram(values: pl.Series, label: str, *, mark: float | None = None, note: str = "") -> dg.MarkdownMetadataValue:
    """Distribution of a column between its 0.5th and 99.5th percentile, one value marked; finite values only."""
    finite = values.filter(values.is_finite())
    left_out = values.len() - finite.len()
    label += f" ({left_out:,} not finite, left out)" if left_out else ""

    def draw(axes: Axes) -> None:
        axes.set_xlabel(label)
        axes.set_ylabel("documents")
        low, high = (finite.quantile(q, "nearest") for q in (0.005, 0.995))
        if low is None or high is None:
            return
        axes.hist(finite.to_numpy(), bins=70, range=(low, high) if low < high else None, color=PALETTE[0])
        if mark is not None:
            axes.axvline(mark, color=PALETTE[1], label=note)
            axes.legend(fontsize=8)

    return plot(draw)


def number(value: Any) -> float:
    """A polars aggregate of a numeric column as a float; NaN where the column is empty."""
    return float("nan") if value is None else float(value)


def plot(draw: Drawing, *, width: float = 7.0, height: float = 3.4) -> dg.MarkdownMetadataValue:
    """An inline image of what `draw` puts on the axes."""
    return plots([draw], width=width, height=height)


def plots(draws: Sequence[Drawing], *, width: float = 7.0, height: float = 3.4) -> dg.MarkdownMetadataValue:
    """Several drawings as one inline image, two beside one another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(draws))
    rows = -(-len(draws) // columns)
    figure = Figure(figsize=(width * (1.3 if columns > 1 else 1), height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for number, draw in enumerate(draws, start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def sql(names: Sequence[str]) -> dg.MarkdownMetadataValue:
    """The SQL files that made a table."""
    from automixer_assets.mixture.sql import load_sql

    return dg.MetadataValue.md("\n".join(f"**{name}.sql**\n```sql\n{load_sql(name)}\n```\n" for name in names))


def columns(described: Sequence[tuple[str, str, str]]) -> dg.TableSchema:
    """A column schema from (name, type, description)."""
    return dg.TableSchema(columns=[dg.TableColumn(name, type_, description) for name, type_, description in described])
