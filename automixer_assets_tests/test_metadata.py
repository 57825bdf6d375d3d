"""Claims about what asset pages show: readable cells, short tables, small plots, for odd values too."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from automixer_assets import metadata
from automixer_assets.metadata import MAX_TABLE_ROWS, bar, format_cell, histogram, sample, sparkline, table

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (1234567, "1,234,567"),
        (0.0, "0"),
        (-0.5, "-0.5"),
        (0.00012345, "1.234e-04"),
        (-0.00012345, "-1.234e-04"),
        (12345.678, "1.235e+04"),
        (1234.5, "1,234"),
        (NAN, "nan"),
        (-INF, "-inf"),
        ([], "–"),
        (["a", None, 2], "a, –, 2"),
        (pl.Series([1000, 2]), "1,000, 2"),
        ("a|b\nc", "a\\|b c"),
    ],
)
def test_cells_are_readable(value: Any, cell: str) -> None:
    assert format_cell(value) == cell


def test_a_table_is_short_and_keeps_its_columns() -> None:
    shown = table(pl.DataFrame({"n": range(1000), "word|s": ["x"] * 1000}))
    assert isinstance(shown, dg.TableMetadataValue)
    assert [column.name for column in shown.schema.columns] == ["n", "word|s"]
    assert len(shown.records) == MAX_TABLE_ROWS
    assert shown.records[-1].data == {"n": str(MAX_TABLE_ROWS - 1), "word|s": "x"}


def test_an_empty_table_says_so() -> None:
    assert table(pl.DataFrame(schema={"reason": pl.String, "rows": pl.Int64})).value == "none"


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 40, ""),
        ([5.0], 40, "▁"),
        ([5.0] * 9, 3, "▁▁▁"),
        ([0.0, 1.0], 2, "▁█"),
        ([float(i) for i in range(8)], 8, "▁▂▃▄▅▆▇█"),
        ([0.0, NAN, 7.0], 3, "▁ █"),
        ([0.0, None, INF, 7.0], 4, "▁  █"),
        ([NAN, NAN], 2, "  "),
        ([3, 1], 2, "█▁"),
    ],
)
def test_a_sparkline_draws_any_curve(values: list[Any], width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_a_long_curve_takes_the_width_it_is_given() -> None:
    assert len(sparkline([math.sin(i) for i in range(1201)])) == 40


@pytest.mark.parametrize(("share", "length"), [(0.0, 1), (0.001, 1), (0.5, 12), (1.0, 24)])
def test_a_bar_is_as_long_as_its_share_and_never_nothing(share: float, length: int) -> None:
    assert len(bar(share)) == length


@pytest.mark.parametrize(
    "values",
    [[], [None, None], [1.0], [2.0] * 50, [NAN] * 5, [1.0, NAN, 3.0, INF, None], [1e-300, 1e300], [0, 1, 2**40]],
    ids=["empty", "null", "one", "constant", "NaN", "mixed", "wide", "integers"],
)
def test_a_histogram_of_any_column_is_an_image(values: list[Any]) -> None:
    dtype = pl.Int64 if values and isinstance(values[0], int) else pl.Float64
    shown = histogram(pl.Series("x", values, dtype), "x", mark=0.0, note="zero")
    assert_small_image(shown)


def test_a_histogram_says_how_many_values_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    monkeypatch.setattr(metadata, "plot", lambda draw: draw(axes))
    histogram(pl.Series([1.0, 2.0, NAN, None, INF]), "loss")
    assert axes.get_xlabel() == "loss (3 not finite, left out)"


def test_plots_stay_small_however_much_they_draw() -> None:
    rng = random.Random(0)
    curves = [[rng.random() for _ in range(2000)] for _ in range(10)]

    def draw(axes: Axes) -> None:
        for curve in curves:
            axes.plot(curve)

    assert_small_image(metadata.plot(draw))
    assert_small_image(histogram(pl.Series([rng.gauss(0, 1) for _ in range(200_000)]), "x"))


def assert_small_image(shown: dg.MarkdownMetadataValue) -> None:
    text = shown.md_str or ""
    assert text.startswith("![plot](data:image/png;base64,")
    assert len(text) < 100_000


@pytest.mark.parametrize(
    ("rows", "limit", "taken"), [(0, 10, 0), (10, 10, 10), (11, 10, 6), (1000, 10, 10), (999, 10, 10)]
)
def test_a_sample_takes_every_kth_row_and_no_more_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, limit: int, taken: int
) -> None:
    monkeypatch.setattr(metadata, "SAMPLED_ROWS", limit)
    for i in range(2):
        pl.DataFrame({"n": range(i, rows, 2), "other": ["x"] * len(range(i, rows, 2))}).write_parquet(
            tmp_path / f"shard-{i}.parquet"
        )
    found = sample(str(tmp_path / "*.parquet"), ["n"])
    assert found.columns == ["n"]
    assert found.height == taken <= limit
    assert sample(sorted(tmp_path.glob("*.parquet")), ["n"]).equals(found), "file by file the same rows"


def test_shown_sql_is_the_file() -> None:
    text = metadata.sql(["group_density"]).md_str or ""
    assert text.startswith("**group_density.sql**\n```sql\n")
    assert "SELECT" in text
