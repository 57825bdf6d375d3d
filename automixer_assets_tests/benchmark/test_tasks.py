"""Claims about which items a task is evaluated on, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.benchmark.tasks import LoadedTask, load_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks
from automixer_assets_tests.benchmark.conftest import BLANK, CHOICE, blank_items, choice_items, write_task

Load = Callable[..., dict[str, LoadedTask]]
SPLITS = [("gradient", "train", 9), ("selection", "validation", 8), ("final", "test", 7)]


def questions(loaded: LoadedTask) -> list[str]:
    return [doc["question"] for doc in loaded.documents]  # pyright: ignore[reportArgumentType,reportCallIssue]


@pytest.mark.parametrize("item_set,split,count", SPLITS)
def test_each_item_set_reads_the_split_that_the_settings_name(
    load: Load, item_set: str, split: str, count: int
) -> None:
    loaded = load(item_set)
    assert list(loaded) == ["mixed", "three", "blanks"]
    assert questions(loaded["mixed"]) == [item["question"] for item in choice_items(f"mixed {split}", count, 0)]
    assert loaded["mixed"].split == split
    assert loaded["three"].doc_indices == tuple(range(count))


def test_splits_may_be_slices_and_differ_by_task(load: Load) -> None:
    halves = {"mixed": {"selection": "validation[:50%]", "final": "validation[50%:]"}}
    selection, final = load("selection", splits=halves), load("final", splits=halves)
    every = [item["question"] for item in choice_items("mixed validation", 8, 0)]
    assert questions(selection["mixed"]) + questions(final["mixed"]) == every
    assert len(selection["three"]) == 8


def test_gold_options_are_those_of_the_data(load: Load) -> None:
    loaded = load()
    assert loaded["mixed"].golds == tuple(item["gold"] for item in choice_items("", 8, 0))
    assert loaded["blanks"].golds == tuple(int(item["answer"]) - 1 for item in blank_items("", 8))


def test_a_limit_takes_a_seeded_sample_that_grows(load: Load) -> None:
    samples = [set(load(selection_items=limit)["mixed"].doc_indices) for limit in (2, 5, 8, 100)]
    assert [len(sample) for sample in samples] == [2, 5, 8, 8]
    assert samples[0] < samples[1] < samples[2]
    limited = load(selection_items=5)["mixed"]
    assert list(limited.doc_indices) == sorted(limited.doc_indices)
    assert questions(limited) == [choice_items("mixed validation", 8, 0)[i]["question"] for i in limited.doc_indices]
    assert {load(selection_items=3, seed=seed)["mixed"].doc_indices for seed in range(6)} != {limited.doc_indices[:3]}


def test_a_sample_does_not_depend_on_the_order_of_the_file(tmp_path: Path, cache: Path) -> None:
    chosen = []
    for name, reverse in (("a", False), ("b", True)):
        items = choice_items("v", 8, 3)
        write_task(tmp_path / name, "t", CHOICE, {"validation": items[::-1] if reverse else items})
        settings = Tasks(names=["t"], directory=name, selection_items=3)
        chosen.append(set(questions(load_tasks(settings, tmp_path, "selection", cache=cache)["t"])))
    assert chosen[0] == chosen[1]


def test_a_missing_or_empty_split_or_data_file_is_named(load: Load, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(AutomixerError, match=r"split 'dev' of task 'mixed'.*tasks.splits.mixed.selection"):
        load(splits={"mixed": {"selection": "dev"}})
    with pytest.raises(AutomixerError, match=r"split 'validation\[:0\]' of task 'mixed' .* no data"):
        load(splits={"mixed": {"selection": "validation[:0]"}})
    write_task(tmp_path / "t", "lost", CHOICE, {"validation": choice_items("v", 2, 2)})
    (tmp_path / "t" / "data" / "lost-validation.jsonl").unlink()
    with pytest.raises(AutomixerError, match=r"'lost' .* data file .*lost-validation.jsonl, which does not exist"):
        load_tasks(Tasks(names=["lost"], directory="t"), tmp_path, "selection", cache=cache)


@pytest.mark.parametrize("label", [None, -1, 3, "", "zebra"])
def test_an_item_without_gold_answer_is_named(label: Any, tmp_path: Path, cache: Path) -> None:
    items = choice_items("v", 4, 3)
    if label in ("", "zebra"):
        items = [{**item, "gold": item["choices"][0]} for item in items]
    items[2]["gold"] = label
    write_task(tmp_path / "t", "hidden", CHOICE, {"validation": items})
    with pytest.raises(AutomixerError, match=r"item 2 of split 'validation' of task 'hidden' .*yaml.* no gold answer"):
        load_tasks(Tasks(names=["hidden"], directory="t"), tmp_path, "selection", cache=cache)


def test_hidden_answers_of_blanks_and_missing_columns_are_refused(tmp_path: Path, cache: Path) -> None:
    items = blank_items("v", 3)
    items[1]["answer"] = ""
    write_task(tmp_path / "t", "hidden", BLANK, {"validation": items})
    write_task(tmp_path / "t", "bare", CHOICE, {"validation": [{"question": "q"}]})
    for name, message in (("hidden", "item 1 .* has no gold answer"), ("bare", "'bare' .* cannot be built")):
        with pytest.raises(AutomixerError, match=message):
            load_tasks(Tasks(names=[name], directory="t"), tmp_path, "selection", cache=cache)


def test_a_task_that_drops_every_item_is_refused(tmp_path: Path, cache: Path) -> None:
    path = write_task(tmp_path / "t", "picky", CHOICE, {"validation": choice_items("v", 4, 3)})
    path.write_text(path.read_text() + "process_docs: !function picky_utils.none\n")
    (path.parent / "picky_utils.py").write_text("def none(docs):\n    return docs.select([])\n")
    with pytest.raises(AutomixerError, match=r"split 'validation' of task 'picky' .* is empty"):
        load_tasks(Tasks(names=["picky"], directory="t"), tmp_path, "selection", cache=cache)


def test_functions_beside_the_yaml_work(tmp_path: Path, cache: Path) -> None:
    config = {key: value for key, value in CHOICE.items() if key != "doc_to_text"}
    path = write_task(tmp_path / "t", "coded", config, {"validation": choice_items("v", 4, 3)})
    functions = "process_docs: !function coded_utils.keep\ndoc_to_text: !function coded_utils.text\n"
    path.write_text(path.read_text() + functions)
    (path.parent / "coded_utils.py").write_text(
        "def keep(docs):\n    return docs.filter(lambda doc: doc['gold'] != 0)\n"
        "def text(doc):\n    return doc['question'].upper()\n"
    )
    loaded = load_tasks(Tasks(names=["coded"], directory="t"), tmp_path, "selection", cache=cache)["coded"]
    kept = [item for item in choice_items("v", 4, 3) if item["gold"] != 0]
    rendered: list[Any] = [loaded.task.doc_to_text(doc) for doc in loaded.documents]
    assert rendered == [item["question"].upper() for item in kept]
    assert loaded.doc_indices == (0, 1)


HOME = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.settings import Tasks
base = Path(sys.argv[2])
load_tasks(Tasks(names=["three", "blanks"], directory="tasks"), base, "selection", cache=base / "kept")
print(sorted(str(p) for p in Path.home().rglob("*")))
"""


def test_nothing_is_written_outside_the_cache_and_nothing_is_printed(base: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", HOME, str(Path(__file__).parents[2]), str(base)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("'", '"')) == []
    assert done.stderr == ""
    assert (base / "kept").is_dir()
