"""The tables of a study come from what was materialised: every mixture's results, and the work behind it."""

from __future__ import annotations

import polars as pl
import pytest

from automixer_assets.lake import Lake
from automixer_assets.microworld.truth import read_truth
from automixer_assets_tests.world import World
from benchmarks.study import held_out_grid, print_tables, work_behind, write_world


def test_a_world_comes_with_the_truth_as_a_column(tmp_path) -> None:
    write_world(tmp_path, seed=3)
    oracle, truth = pl.read_parquet(tmp_path / "oracle.parquet"), read_truth(tmp_path)
    assert oracle["doc_id"].to_list() == truth["doc_id"].to_list()
    assert oracle["teaches"].sum() == truth.filter(pl.col("kind") == "skill").height > 0


def test_work_is_that_of_everything_upstream(finished: World) -> None:
    with finished.active():
        rows = {name: work_behind(finished.instance, finished.lake, name) for name in ("demo", "uniform")}
    assert rows["demo"]["proxy"] == round(finished.artifact("demo/proxy_run").seconds, 1) != 0
    assert 0 not in (rows["demo"]["queries"], rows["demo"]["scoring"])
    assert rows["uniform"]["proxy"] == rows["uniform"]["scoring"] == 0
    seeds = [uri for uri in finished.artifact("target_runs", "demo").uses or () if uri.startswith("target_seed/")]
    assert rows["demo"]["one target run"] == round(mean_seconds(finished.lake, seeds), 1) > 0


def mean_seconds(lake: Lake, uris: list[str]) -> float:
    return sum(lake.open(uri).seconds for uri in uris) / len(uris)


def test_tables_name_every_mixture(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    with finished.active():
        print_tables(finished.config, [])
    printed = capsys.readouterr().out
    means, by_task, *_ = printed.split("\n\n")
    assert means.count("| demo") == means.count("| uniform") == 3
    assert "demo - uniform" in by_task


def test_held_out_text_is_averaged_over_seeds_then_sources() -> None:
    rows = [("books", 1, 1.0), ("books", 2, 3.0), ("logs", 1, 4.0), ("logs", 2, 6.0)]
    runs = {"uniform": pl.DataFrame(rows, ["source", "seed", "bits_per_byte"], orient="row")}
    runs["demo"] = runs["uniform"].with_columns(pl.col("bits_per_byte") - 1)
    grid = held_out_grid(runs)
    assert grid.rows() == [("books", 2.0, 1.0), ("logs", 5.0, 4.0), ("mean over sources", 3.5, 2.5)]
