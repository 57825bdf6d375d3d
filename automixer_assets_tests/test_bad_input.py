"""Bad input end to end: each case ends in one sentence (what, where, what to do) and leaves nothing half made.

Settings that cannot be are in test_settings.py and test_cli.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from automixer_assets.benchmark.runner import BENCHMARK_SCHEMA
from automixer_assets.benchmark.selection import select_checkpoints
from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.checkpoints import write_checkpoint
from automixer_assets.proxy.model import build_model, load_model
from automixer_assets.proxy.tokenizer import train_tokenizer
from automixer_assets.settings import Architecture, Recipe
from automixer_assets_tests.command import SNAPSHOT, Place, create_finished_place, create_place

TASK = "microworld_piqa"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place whose uniform mixture is made; tests work on copies."""
    return create_finished_place(tmp_path_factory.mktemp("finished") / "place")


@pytest.fixture
def place(finished: Place, tmp_path: Path) -> Place:
    return Place(shutil.copytree(finished.folder, tmp_path / "place"))


def source_of(place: Place) -> Path:
    return min((place.snapshots / SNAPSHOT).glob("*.parquet"))


@pytest.mark.parametrize("key", ["a b", "../x", "x|y", "..", "a\n"])
def test_a_snapshot_key_that_the_ui_let_through_is_refused_by_the_run(tmp_path: Path, key: str) -> None:
    place = create_place(tmp_path / "place")
    if key == "../x":
        shutil.copytree(place.snapshots / SNAPSHOT, place.snapshots.parent / "x")
    with place.instance() as instance:
        instance.add_dynamic_partitions("snapshot", [key])
    result = place.run("materialize", "snapshot_inventory", "--partition", key)
    assert (result.code, result.stdout) == (1, "")
    assert result.sentence == (
        f"key {key!r} is not allowed: use letters, digits, '.', '_' and '-' only (rename the folder or the setting)"
    )
    assert not (place.state / "lake").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def without_text(path: Path) -> None:
    pl.read_parquet(path).drop("text").write_parquet(path)


def with_texts_as_scores(path: Path) -> None:
    pl.read_parquet(path).with_columns(pl.col("score").cast(pl.String)).write_parquet(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, " is not a readable Parquet file (Parquet magic bytes not found in footer"),
        (without_text, " has no column 'text' (it has: id, dump, url"),
        (
            with_texts_as_scores,
            ": column 'score' is large_string, not a number: convert or drop it and write the file again",
        ),
    ],
)
def test_a_bad_source_file_is_named_and_nothing_is_published(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    place = create_place(tmp_path / "place")
    assert place.run("snapshot", "add", SNAPSHOT).code == 0
    damage(source_of(place))
    result = place.run("materialize", "snapshot_inventory")
    assert result.code == 1
    assert result.sentence.startswith(f"{source_of(place)}{said}")
    assert not [path for path in (place.state / "lake").glob("*/*") if not path.name.startswith(".")]


def test_a_snapshot_that_was_emptied_is_named(place: Place) -> None:
    for path in (place.snapshots / SNAPSHOT).glob("*.parquet"):
        path.unlink()
    assert (place.snapshots / SNAPSHOT / "_SUCCESS").exists()
    result = place.run("materialize", "snapshot_inventory")
    assert result.code == 1
    assert result.sentence == (
        f"snapshot {place.snapshots / SNAPSHOT} holds no *.parquet file: put its files there, "
        "or withdraw it (`automixer snapshot remove`)"
    )


@pytest.mark.parametrize(("asset", "setting"), [("tokenizer", "tokenizer.vocab_size=310"), ("tokenized_corpus", "")])
def test_a_source_that_changed_since_its_inventory_is_not_read(place: Place, asset: str, setting: str) -> None:
    path = source_of(place)
    pl.read_parquet(path).reverse().write_parquet(path)
    if asset == "tokenized_corpus":
        shutil.rmtree(place.state / "lake" / asset)
    result = place.run("materialize", asset, *(["--set", setting] if setting else []))
    assert result.code == 1
    assert result.sentence == f"{path} changed since the inventory: materialise snapshot_inventory again"


def test_a_deleted_artefact_is_named_by_what_needs_it(place: Place) -> None:
    (folder,) = (place.state / "lake" / "tokenizer").iterdir()
    shutil.rmtree(folder)
    result = place.run("materialize", "tokenized_corpus")
    assert result.code == 1
    assert result.sentence == (
        f"{folder} is missing or incomplete: restore it from a copy of the lake, or materialise tokenizer again"
    )


def test_a_task_file_without_gold_answers_is_named(place: Place) -> None:
    path = place.state / "microworld" / "tasks" / TASK / "validation.jsonl"
    items = [json.loads(line) for line in path.read_text().splitlines()]
    items[3]["gold"] = -1
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    result = place.run("materialize", "validation_items", "--set", f"tasks.names=[{TASK}]")
    assert result.code == 1
    assert result.sentence == (
        f"item 3 of split 'validation' of task {TASK!r} ({path.parent.with_suffix('.yaml')}) has no gold answer; "
        "use a split whose answers are public"
    )


def test_a_task_never_above_chance_is_flagged_and_falls_back_on_the_gold_answers_nll() -> None:
    unknown = dict.fromkeys(BENCHMARK_SCHEMA)
    at_chance = {**unknown, "task": "siqa", "acc": 0.3, "acc_stderr": 0.05, "chance": 0.25}
    rows = [
        {**at_chance, "checkpoint": f"p-step-{step:06d}", "step": step, "progress": step / 30, "gold_nll": nll}
        for step, nll in ((10, 2.0), (20, 1.0), (30, 3.0))
    ]
    table = pl.DataFrame(rows, schema=BENCHMARK_SCHEMA)
    selection = select_checkpoints(table, Recipe.model_validate({"proxy": "p"}))
    (assigned,) = selection.assignments.iter_rows(named=True)
    assert (assigned["above_chance"], assigned["fallback"], assigned["metric"]) == (False, "gold_nll", "gold_nll")
    assert selection.selected["step"].to_list() == [20]


@pytest.mark.parametrize("vocab_size", [300, 500])
def test_a_tokenizer_that_does_not_fit_the_checkpoint_is_refused(tmp_path: Path, vocab_size: int) -> None:
    texts = [f"{i} rivers and {i * i} stones near the old copper mill" for i in range(300)]
    own, other = (train_tokenizer(iter(texts), size, tmp_path / str(size)).folder for size in (400, vocab_size))
    architecture = Architecture(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
    )
    checkpoint = write_checkpoint(build_model(architecture, 400, 16, seed=0), tmp_path, 1, own)
    assert load_model(checkpoint).config.vocab_size == 400
    with pytest.raises(AutomixerError) as refused:
        load_model(checkpoint, tokenizer_folder=other)
    assert str(refused.value) == (
        f"the tokenizer in {other} has {vocab_size} ids but the checkpoint {checkpoint} has 400 embedding rows; "
        "use the tokenizer that the checkpoint was trained with"
    )


def retokenize(place: Place) -> Path:
    """Make tokenized_corpus due and stop just before it is written; returns its working folder."""
    shutil.rmtree(place.state / "lake" / "tokenized_corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("automixer_assets.lake.MINIMUM_FREE_BYTES", 2**62)
        result = place.run("materialize", "tokenized_corpus")
    assert result.code == 1
    (working,) = (place.state / "lake" / "tokenized_corpus").glob(".partial-*")
    assert result.sentence.startswith("only ")
    assert result.sentence.endswith(
        f" MiB of disk space left at {working}: free some (or move AUTOMIXER_STATE to a larger disk)"
    )
    return working


@pytest.mark.parametrize("name", [".shard-00000.bin.tmp", ".shard-00001.parquet.tmp"])
def test_a_disk_that_fills_up_is_said_and_the_work_goes_on_from_there(place: Place, name: str) -> None:
    working = retokenize(place)
    (working / name).symlink_to("/dev/full")  # a name that is written to, by Python itself or by polars
    result = place.run("materialize", "tokenized_corpus")
    assert (result.code, result.stdout) == (1, "")
    assert result.sentence == (
        f"no disk space left while writing {working}: "
        "free some (or move AUTOMIXER_STATE to a larger disk) and run again"
    )
    assert Path("/dev/full").is_char_device()
    assert place.run("materialize", "tokenized_corpus").code == 0


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """What a run that is writing the same artefact does."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(str(os.getpid()))
        file.flush()
        yield
        lock.unlink()


def test_a_second_run_of_the_same_partition_is_refused_while_the_first_writes(place: Place) -> None:
    working = retokenize(place)
    digest = working.name.removeprefix(".partial-")
    with held(working.parent / f".{digest}.lock"):
        result = place.run("materialize", "tokenized_corpus")
    assert result.code == 1
    assert result.sentence == (
        f"tokenized_corpus/{digest} is being written by process {os.getpid()}: "
        "wait for that run or cancel it, then run again"
    )
    assert place.run("materialize", "tokenized_corpus").code == 0
