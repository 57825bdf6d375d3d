"""Claims about where items come from: local files and caches replace the Hub, and nothing asks the network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.benchmark.items import render_items
from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks

FIELDS = {
    "piqa": {"goal": "dry {i} plums", "sol1": "use {i} suns", "sol2": "use {i} moons", "label": 1},
    "social_iqa": {"context": "Al {i}.", "question": "Why {i}?", "answerA": "a {i}", "answerB": "b", "answerC": "c",
                   "label": "3"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"the network was asked: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for task, fields in FIELDS.items():
        for split, begin in (("train", 0), ("validation", 10)):
            items = [
                {key: value.format(i=begin + i) if isinstance(value, str) else value for key, value in fields.items()}
                for i in range(6)
            ]
            path = tmp_path / "data" / task / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return tmp_path


def load(base: Path, item_set: Any = "selection", **settings: Any) -> dict[str, LoadedTask]:
    halves = {"selection": "validation[:50%]", "final": "validation[50%:]"}
    given = {"names": list(FIELDS), "data": {"source": "files", "directory": "data"}, "default_splits": halves}
    return load_tasks(Tasks.model_validate({**given, **settings}), base, item_set, cache=base / "cache")


def texts(loaded: LoadedTask) -> list[str]:
    return [item.text for item in render_items(loaded)]


def test_local_files_stand_in_for_the_hub(base: Path) -> None:
    loaded = load(base)
    assert texts(loaded["piqa"]) == [f"Question: dry {i} plums\nAnswer: use {i} moons" for i in (10, 11, 12)]
    assert texts(loaded["social_iqa"]) == [f"Q: Al {i}. Why {i}?\nA: c" for i in (10, 11, 12)]
    assert texts(load(base, "final")["piqa"])[0] == "Question: dry 13 plums\nAnswer: use 13 moons"
    assert load(base, "gradient")["piqa"].doc_indices == tuple(range(6))


def test_parquet_files_do_as_well_and_few_shot_examples_come_from_the_same_folder(base: Path) -> None:
    import polars as pl

    train = base / "data" / "piqa" / "train.jsonl"
    pl.read_ndjson(train).write_parquet(train.with_suffix(".parquet"))
    train.unlink()
    shown = texts(load(base, names=["piqa"], num_fewshot=2)["piqa"])
    assert all(text.count("Question:") == 3 and text.count("moons") == 3 for text in shown)


def test_ones_own_tasks_keep_their_own_data(base: Path) -> None:
    from automixer_assets_tests.benchmark.conftest import CHOICE, choice_items, write_task

    write_task(base / "tasks", "own", CHOICE, {"validation": choice_items("own", 4, 3)})
    loaded = load(base, names=["own", "piqa"], directory="tasks")
    assert [len(task) for task in loaded.values()] == [2, 3]


def test_missing_and_empty_files_are_named_with_what_there_is(base: Path) -> None:
    with pytest.raises(
        AutomixerError,
        match=r"data/piqa/test.jsonl, with split 'test' of task 'piqa', does not exist; it has train.jsonl, "
        r"validation.jsonl: mend tasks.splits.piqa.final",
    ):
        load(base, "final", default_splits={"final": "test"})
    (base / "data" / "piqa" / "train.jsonl").write_text("")
    with pytest.raises(AutomixerError, match=r"piqa/train.jsonl is empty: .*tasks.splits.piqa.gradient"):
        load(base, "gradient")
    shutil.rmtree(base / "data" / "piqa")
    with pytest.raises(AutomixerError, match=r"piqa/validation.jsonl.* does not exist; see `automixer tasks prepare`"):
        load(base)


def test_an_empty_slice_and_a_broken_line_are_refused(base: Path) -> None:
    with pytest.raises(AutomixerError, match=r"'validation\[:0\]' of task 'piqa' .* is empty|no data"):
        load(base, default_splits={"selection": "validation[:0]"})
    path = base / "data" / "piqa" / "validation.jsonl"
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(AutomixerError, match=r"cannot read split 'validation\[:50%\]' of task 'piqa'.*tasks.data"):
        load(base)


def test_a_cache_that_datasets_left_is_read_without_the_hub(base: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    files = {split: str(base / "data" / "piqa" / f"{split}.jsonl") for split in ("train", "validation")}
    load_dataset("json", data_files=files, cache_dir=str(tmp_path / "made"))
    made = next((tmp_path / "made" / "json").glob("*/*/*/dataset_info.json")).parent
    # As `load_dataset("baber/piqa")` names it, the data set that lm-eval's task reads.
    kept = tmp_path / "hub-cache" / "baber___piqa" / "default" / "0.0.0" / made.name
    shutil.copytree(made, kept)
    info = json.loads((kept / "dataset_info.json").read_text())
    (kept / "dataset_info.json").write_text(json.dumps({**info, "config_name": "default", "dataset_name": "piqa"}))
    for path in kept.glob("json-*.arrow"):
        path.rename(path.with_name(path.name.replace("json-", "piqa-")))
    cached = load(base, names=["piqa"], data={"source": "cache", "directory": "hub-cache"})
    assert texts(cached["piqa"]) == texts(load(base)["piqa"])
    with pytest.raises(AutomixerError, match=r"cannot read split .* of task 'social_iqa'.*lighteval/siqa"):
        load(base, names=["social_iqa"], data={"source": "cache", "directory": "hub-cache"})


def test_the_hub_is_asked_by_default_and_its_absence_is_said(base: Path) -> None:
    with pytest.raises(AutomixerError, match=r"cannot read split .* of task 'piqa' .*tasks.data or"):
        load(base, names=["piqa"], data={})
