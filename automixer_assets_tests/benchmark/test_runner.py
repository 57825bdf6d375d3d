"""Claims about the benchmark table: its figures, and that nothing is evaluated twice."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from automixer_assets.benchmark import runner
from automixer_assets.benchmark.items import RenderedItem, encode_pair, render_items
from automixer_assets.benchmark.runner import (
    BENCHMARK_SCHEMA,
    ITEMS_SCHEMA,
    BenchmarkTables,
    evaluate_checkpoints,
    read_left_out,
)
from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.checks import check_all_asked
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact, Lake
from automixer_assets.proxy.checkpoints import write_checkpoint
from automixer_assets.proxy.model import build_model, load_model
from automixer_assets.proxy.tokenizer import load_tokenizer
from automixer_assets.settings import Architecture, Tasks
from automixer_assets_tests.benchmark.conftest import CHOICE, choice_items, write_task

Load = Callable[..., dict[str, LoadedTask]]


@pytest.fixture(scope="module")
def loaded(base: Path, cache: Path, tasks: Tasks) -> dict[str, LoadedTask]:
    return load_tasks(tasks, base, "selection", cache=cache)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def tables(checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], lake: Lake) -> BenchmarkTables:
    return evaluate_checkpoints(checkpoints, loaded, total_steps=40, lake=lake, batch_size=4)


def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(checkpoint folder, task) of every evaluation from now on."""
    done: list[tuple[str, str]] = []
    original = runner._Evaluator.evaluate

    def record(self: Any, folder: Path, plan: Any) -> Any:
        done.append((folder.name, plan.loaded.name))
        return original(self, folder, plan)

    monkeypatch.setattr(runner._Evaluator, "evaluate", record)
    return done


def log_likelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> float:
    """By hand: sum of log-probabilities of the continuation's tokens, float32."""
    before, answer = encode_pair(tokenizer, context, continuation)
    ids = torch.tensor([before + answer])
    with torch.no_grad():
        logs = torch.log_softmax(model(ids[:, :-1]).logits[0], dim=-1)
    positions = range(len(before) - 1, len(before) + len(answer) - 1)
    return float(sum(logs[p, int(ids[0, p + 1])] for p in positions))


def test_columns_are_those_of_the_contract(tables: BenchmarkTables, tmp_path: Path) -> None:
    assert tables.benchmark.schema == pl.Schema(BENCHMARK_SCHEMA)
    assert tables.items.schema == pl.Schema(ITEMS_SCHEMA)
    assert tables.benchmark.height == 9
    assert tables.items.height == 3 * 3 * 8
    assert tables.benchmark["progress"].unique(maintain_order=True).to_list() == [0.25, 0.5, 1.0]
    tables.write(tmp_path)
    assert pl.read_parquet(tmp_path / "benchmark.parquet").equals(tables.benchmark)
    assert pl.read_parquet(tmp_path / "items.parquet").equals(tables.items)


def test_every_items_likelihood_is_the_models_own(
    checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], tables: BenchmarkTables
) -> None:
    for key, folder in checkpoints.items():
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        for task in loaded.values():
            rows = tables.items.filter(pl.col("checkpoint") == key, pl.col("task") == task.name)
            for item, row in zip(render_items(task), rows.iter_rows(named=True), strict=True):
                check_item(item, row, [log_likelihood(model, tokenizer, *option) for option in item.options])


def check_item(item: RenderedItem, row: dict[str, Any], scores: list[float]) -> None:
    assert row["item_hash"] == item.item_hash
    assert row["gold_nll"] == pytest.approx(-scores[item.gold], rel=1e-5)
    assert row["acc"] == float(int(np.argmax(scores)) == item.gold)
    assert row["n_options"] == len(item.options)
    assert row["gold_bytes"] == len(item.answer.encode())
    if row["acc_norm"] is not None:  # by characters of the answer, as lm-eval has it
        lengths = [len(continuation) - 1 for _, continuation in item.options]
        assert row["acc_norm"] == float(int(np.argmax(np.array(scores) / lengths)) == item.gold)


def test_the_table_sums_up_the_items(tables: BenchmarkTables) -> None:
    for row in tables.benchmark.iter_rows(named=True):
        items = tables.items.filter(pl.col("checkpoint") == row["checkpoint"], pl.col("task") == row["task"])
        acc, nll = items["acc"].to_numpy(), items["gold_nll"].to_numpy()
        assert row["acc"] == pytest.approx(acc.mean())
        assert row["acc_stderr"] == pytest.approx(acc.std(ddof=1) / math.sqrt(8))
        assert row["gold_nll"] == pytest.approx(nll.mean())
        assert row["gold_nll_stderr"] == pytest.approx(nll.std(ddof=1) / math.sqrt(8))
        assert row["gold_bits_per_byte"] == pytest.approx(nll.sum() / math.log(2) / items["gold_bytes"].sum())
        assert row["n_items"] == 8


def test_chance_is_the_mean_guess_and_acc_norm_is_null_where_there_is_none(tables: BenchmarkTables) -> None:
    first = {row["task"]: row for row in tables.benchmark.head(3).iter_rows(named=True)}
    assert first["mixed"]["chance"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert first["three"]["chance"] == pytest.approx(1 / 3)
    assert first["blanks"]["chance"] == 0.5
    assert first["blanks"]["acc_norm"] is first["blanks"]["acc_norm_stderr"] is None
    assert first["mixed"]["acc_norm"] is not None


def copied(lake: Lake, path: Path) -> Lake:
    return Lake(Path(shutil.copytree(lake.root, path / "lake")))


def forget(lake: Lake, table: pl.DataFrame, checkpoint: str, task: str) -> Path:
    """Remove the evaluation of a checkpoint on a task; its folder."""
    expected = table.filter(pl.col("checkpoint") == checkpoint, pl.col("task") == task)["gold_nll"].to_list()
    for metrics in lake.root.glob("evaluation/*/metrics.json"):
        if pl.read_parquet(metrics.with_name("items.parquet"))["gold_nll"].to_list() == expected:
            shutil.rmtree(metrics.parent)
            return metrics.parent
    raise AssertionError(f"no evaluation of {checkpoint} on {task}")


def test_a_repeated_run_evaluates_only_what_is_missing(
    checkpoints: dict[str, Path],
    loaded: dict[str, LoadedTask],
    tables: BenchmarkTables,
    lake: Lake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = copied(lake, tmp_path)
    forget(copy, tables.items, "p-step-000020", "three")
    forget(copy, tables.items, "p-step-000040", "blanks")
    done = evaluations(monkeypatch)
    seen: list[tuple[str, int, int]] = []
    again = evaluate_checkpoints(
        checkpoints, loaded, total_steps=40, lake=copy, batch_size=4, on_progress=lambda *call: seen.append(call)
    )
    assert done == [("step-000020", "three"), ("step-000040", "blanks")]
    assert again.benchmark.equals(tables.benchmark)
    assert again.items.equals(tables.items)
    assert [call[1:] for call in seen] == [(n, 9) for n in range(1, 10)]
    assert seen[3][0] == "p-step-000020"


def test_a_killed_table_goes_on_where_it_stopped(
    checkpoints: dict[str, Path],
    loaded: dict[str, LoadedTask],
    tables: BenchmarkTables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake, original, asked = Lake(tmp_path / "lake"), runner._metrics, []

    def killed_at_the_fifth(items: pl.DataFrame) -> dict[str, Any]:
        asked.append(items)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return original(items)

    monkeypatch.setattr(runner, "_metrics", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoints(checkpoints, loaded, total_steps=40, lake=lake, batch_size=4)
    done = evaluations(monkeypatch)
    again = evaluate_checkpoints(checkpoints, loaded, total_steps=40, lake=lake, batch_size=4)
    assert len(done) == 5
    assert done[0] == ("step-000020", "three")
    assert again.benchmark.equals(tables.benchmark)


def test_a_new_checkpoint_or_task_evaluates_only_itself(
    checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, done = Lake(tmp_path / "lake"), evaluations(monkeypatch)
    two = {key: folder for key, folder in checkpoints.items() if key != "p-step-000020"}
    one_task = {"three": loaded["three"]}
    evaluate_checkpoints(two, one_task, total_steps=40, lake=lake)
    assert done == [("step-000010", "three"), ("step-000040", "three")]
    evaluate_checkpoints(checkpoints, one_task, total_steps=40, lake=lake)
    assert done[2:] == [("step-000020", "three")]
    evaluate_checkpoints(checkpoints, {**one_task, "blanks": loaded["blanks"]}, total_steps=40, lake=lake)
    assert [task for _, task in done[3:]] == ["blanks"] * 3


def test_changed_weights_or_items_are_evaluated_again(
    checkpoints: dict[str, Path],
    load: Load,
    lake: Lake,
    tables: BenchmarkTables,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = copied(lake, tmp_path)
    done = evaluations(monkeypatch)
    fewer = load(selection_items=4, names=["three", "blanks"])
    one = {"p-step-000010": checkpoints["p-step-000010"]}
    assert evaluate_checkpoints(one, fewer, total_steps=40, lake=copy, batch_size=4).benchmark["n_items"].to_list() == [
        4,
        4,
    ]
    other = {"p-step-000010": checkpoints["p-step-000040"]}
    changed = evaluate_checkpoints(other, fewer, total_steps=40, lake=copy, batch_size=4)
    assert len(done) == 4
    evaluate_checkpoints(other, fewer, total_steps=40, lake=copy, batch_size=4)
    assert len(done) == 4
    hashes = changed.items["item_hash"].implode()
    expected = tables.items.filter(pl.col("step") == 40, pl.col("task") != "mixed", pl.col("item_hash").is_in(hashes))
    np.testing.assert_allclose(changed.items["gold_nll"], expected["gold_nll"], rtol=1e-5)


def test_nothing_is_printed(
    checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], tmp_path: Path, capfd: Any
) -> None:
    key, folder = next(iter(checkpoints.items()))
    evaluate_checkpoints({key: folder}, {"three": loaded["three"]}, total_steps=40, lake=Lake(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_a_single_item_has_no_standard_error(checkpoints: dict[str, Path], load: Load, tmp_path: Path) -> None:
    key, folder = next(iter(checkpoints.items()))
    single = load(names=["three"], selection_items=1)
    row = evaluate_checkpoints({key: folder}, single, total_steps=40, lake=Lake(tmp_path)).benchmark.row(0, named=True)
    assert (row["n_items"], row["acc_stderr"], row["gold_nll_stderr"]) == (1, None, None)


def test_few_shot_examples_reach_the_model(checkpoints: dict[str, Path], load: Load, tmp_path: Path) -> None:
    key, folder = next(iter(checkpoints.items()))
    shown = load(names=["three"], num_fewshot=1, selection_items=4)
    rows = evaluate_checkpoints({key: folder}, shown, total_steps=40, lake=Lake(tmp_path)).items
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    for item, row in zip(render_items(shown["three"]), rows.iter_rows(named=True), strict=True):
        assert row["gold_nll"] == pytest.approx(-log_likelihood(model, tokenizer, *item.options[item.gold]), rel=1e-5)


def test_checkpoints_of_two_shapes_are_refused(
    checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], tokenizer_folder: Path, tmp_path: Path
) -> None:
    shape = Architecture(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    other = write_checkpoint(build_model(shape, 400, 64, 0), tmp_path, 50, tokenizer_folder)
    mixed = {"p-step-000010": checkpoints["p-step-000010"], "p-step-000050": other}
    with pytest.raises(AutomixerError, match=r"step-000050: tensor .* is \(400, 32\), expected \(400, 16\)"):
        evaluate_checkpoints(mixed, {"three": loaded["three"]}, total_steps=50, lake=Lake(tmp_path / "lake"))


def test_bad_inputs_are_refused(
    checkpoints: dict[str, Path], loaded: dict[str, LoadedTask], tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(AutomixerError, match=r"no checkpoint to evaluate"):
        evaluate_checkpoints({}, loaded, total_steps=40, lake=Lake(tmp_path))
    folder = next(iter(checkpoints.values()))
    with pytest.raises(AutomixerError, match=r"'latest' is not a checkpoint key"):
        evaluate_checkpoints({"latest": folder}, loaded, total_steps=40, lake=Lake(tmp_path))


def wordy(folder: Path, cache: Path, *long: int) -> dict[str, LoadedTask]:
    """A task of three items; at those places an option is longer than the checkpoints' context of 64 tokens."""
    items = choice_items("v", 3, 3)
    for place in long:
        items[place]["choices"][0] = "long " * 80
    write_task(folder / "t", "wordy", CHOICE, {"validation": items})
    return load_tasks(Tasks(names=["wordy"], directory="t"), folder, "selection", cache=cache)


def test_an_item_that_no_model_can_read_is_left_out_for_all_checkpoints_and_named(
    checkpoints: dict[str, Path], tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "short").mkdir()
    whole = evaluate_checkpoints(
        checkpoints, wordy(tmp_path / "short", cache), total_steps=40, lake=Lake(tmp_path / "lake")
    )
    tables = evaluate_checkpoints(checkpoints, wordy(tmp_path, cache, 1), total_steps=40, lake=Lake(tmp_path / "lake"))
    tables.write(tmp_path / "out")
    left_out = read_left_out(tmp_path / "out")
    assert left_out.select("task", "doc_index", "context_length").rows() == [("wordy", 1, 64)]
    assert left_out["n_tokens"][0] > 64
    assert set(tables.benchmark["n_items"]) == {2}
    others = whole.items.filter(pl.col("doc_index") != 1)
    assert_frame_equal(tables.items, others, rel_tol=1e-4)
    assert whole.left_out.is_empty()
    whole.write(tmp_path / "all")
    said = {name: check_all_asked(Artifact(name, "d", tmp_path / name, "c", 0.0, {})) for name in ("out", "all")}
    assert said["all"].passed and not said["out"].passed
    assert "asked of no model: 1 of wordy (1). Each has an option that is empty or longer" in said["out"].description


def test_a_task_without_an_item_that_fits_is_refused(checkpoints: dict[str, Path], tmp_path: Path, cache: Path) -> None:
    message = r"task 'wordy': none of its 3 items can be asked, .* longer than the 64 tokens"
    with pytest.raises(AutomixerError, match=message):
        evaluate_checkpoints(checkpoints, wordy(tmp_path, cache, 0, 1, 2), total_steps=40, lake=Lake(tmp_path / "lake"))
