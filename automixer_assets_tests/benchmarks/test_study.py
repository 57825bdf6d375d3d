"""The tables of a study come from what was materialised: every mixture's results, and the work behind it."""

from __future__ import annotations

import polars as pl
import pytest

from automixer_assets.lake import Lake
from automixer_assets.microworld.truth import read_truth
from automixer_assets_tests.world import World
from benchmarks.study import held_out_grid, print_sources, print_tables, source_lifts, work_behind, write_world


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


def test_differences_can_be_taken_to_any_mixture(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    with finished.active():
        print_tables(finished.config, [], against="demo")
    printed = capsys.readouterr().out
    assert "minus demo" in printed and printed.count("| uniform") == 3


def test_held_out_text_is_averaged_over_seeds_then_sources() -> None:
    rows = [("books", 1, 1.0), ("books", 2, 3.0), ("logs", 1, 4.0), ("logs", 2, 6.0)]
    runs = {"uniform": pl.DataFrame(rows, ["source", "seed", "bits_per_byte"], orient="row")}
    runs["demo"] = runs["uniform"].with_columns(pl.col("bits_per_byte") - 1)
    grid = held_out_grid(runs)
    assert grid.rows() == [("books", 2.0, 1.0), ("logs", 5.0, 4.0), ("mean over sources", 3.5, 2.5)]


def test_a_lift_is_the_share_in_the_better_half_over_the_share_of_all() -> None:
    rows = [("a", "books", -3.0), ("b", "books", -2.0), ("c", "logs", -2.0), ("d", "logs", 1.0), ("e", "code", 4.0)]
    scores = pl.DataFrame([*rows, ("f", "logs", 0.5)], ["doc_id", "source", "influence_x"], orient="row")
    lifts = source_lifts(scores, {"piqa": "influence_x"})
    assert lifts.columns == ["source", "documents", "piqa", "mean"]
    assert lifts.rows() == [("books", 2, 2.0, 2.0), ("logs", 3, 0.67, 0.67), ("code", 1, 0.0, 0.0)]


def test_sources_are_told_for_every_selected_checkpoint(finished: World, capsys: pytest.CaptureFixture[str]) -> None:
    with finished.active():
        print_sources(finished.config, [], "demo", "dump")
    printed = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if "top half" in line).startswith(finished.checkpoints()[0])
    assert printed.count("| MW-2026-01") == printed.count("| MW-2026-02") == len(finished.checkpoints())
