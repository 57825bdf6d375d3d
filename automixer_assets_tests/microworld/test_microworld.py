"""The micro-world is deterministic, balanced, and grows without touching what is there."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from automixer_assets.errors import AutomixerError
from automixer_assets.microworld import SNAPSHOTS, TASKS, write_microworld
from automixer_assets.microworld.documents import KIND_SHARES
from automixer_assets.microworld.truth import read_truth
from automixer_assets.settings_file import load_settings

DOCUMENTS = 200
SPLITS = ("train", "validation", "test")
CONTAMINATION_WORDS = 13
Item = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("world")
    write_microworld(folder, documents_per_snapshot=DOCUMENTS)
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _items(folder: Path, task: str, split: str) -> list[Item]:
    lines = (folder / "tasks" / task / f"{split}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _documents(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "snapshots" / "*" / "*.parquet")


def _grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + CONTAMINATION_WORDS]) for i in range(len(words) - CONTAMINATION_WORDS + 1)}


# Files


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(world: Path, tmp_path: Path) -> None:
    write_microworld(tmp_path / "again", documents_per_snapshot=DOCUMENTS)
    assert _bytes(tmp_path / "again") == _bytes(world)
    write_microworld(tmp_path / "other", documents_per_snapshot=DOCUMENTS, seed=1)
    other = _bytes(tmp_path / "other")
    assert all(
        other[name] != content for name, content in _bytes(world).items() if name.endswith((".parquet", ".jsonl"))
    )


def test_writing_again_touches_no_file(world: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    write_microworld(world, documents_per_snapshot=DOCUMENTS)
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before


def test_a_snapshot_added_later_leaves_older_bytes_and_equals_one_written_at_once(world: Path, tmp_path: Path) -> None:
    write_microworld(tmp_path, documents_per_snapshot=DOCUMENTS, snapshots=SNAPSHOTS[:2])
    before = {name: content for name, content in _bytes(tmp_path).items() if not name.startswith("truth")}
    write_microworld(tmp_path, documents_per_snapshot=DOCUMENTS, snapshots=SNAPSHOTS[2:])
    after = _bytes(tmp_path)
    assert {name: after[name] for name in before} == before
    assert after == _bytes(world)


def test_an_unfinished_snapshot_is_completed(world: Path, tmp_path: Path) -> None:
    write_microworld(tmp_path, documents_per_snapshot=DOCUMENTS)
    snapshot = tmp_path / "snapshots" / SNAPSHOTS[0]
    (snapshot / "_SUCCESS").unlink()
    (snapshot / "000_00001.parquet").unlink()
    write_microworld(tmp_path, documents_per_snapshot=DOCUMENTS)
    assert _bytes(tmp_path) == _bytes(world)


@pytest.mark.parametrize("changed", [{"seed": 7}, {"documents_per_snapshot": 300}, {"facts_per_skill": 48}])
def test_a_folder_of_another_world_is_refused(world: Path, changed: dict[str, int]) -> None:
    before = _bytes(world)
    with pytest.raises(AutomixerError, match=rf"{next(iter(changed))}=.*asked for: {next(iter(changed.values()))}"):
        given: dict[str, Any] = {"documents_per_snapshot": DOCUMENTS, **changed}
        write_microworld(world, **given)
    assert _bytes(world) == before


def test_impossible_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match="multiple of 24"):
        write_microworld(tmp_path, facts_per_skill=10)
    with pytest.raises(AutomixerError, match="name it MW-<year>-<month>"):
        write_microworld(tmp_path, snapshots=["../elsewhere"])
    with pytest.raises(AutomixerError, match="at least 2"):
        write_microworld(tmp_path, documents_per_snapshot=1)
    assert not list(tmp_path.iterdir())


def test_snapshots_are_complete_and_hold_no_leftovers(world: Path) -> None:
    for snapshot in SNAPSHOTS:
        names = sorted(path.name for path in (world / "snapshots" / snapshot).iterdir())
        assert names == ["000_00000.parquet", "000_00001.parquet", "_SUCCESS"]
        assert (world / "snapshots" / snapshot / "_SUCCESS").stat().st_size == 0
    assert not list(world.rglob("*.tmp"))


# Documents


def test_source_files_have_finewebs_columns_and_types(world: Path) -> None:
    schema = pq.read_schema(world / "snapshots" / SNAPSHOTS[0] / "000_00000.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "text": "string", "id": "string", "dump": "string", "url": "string", "date": "string", "file_path": "string",
        "language": "string", "language_score": "double", "token_count": "int64", "score": "double",
        "int_score": "int64",
    }  # fmt: skip
    documents = _documents(world)
    assert not any(documents.null_count().row(0))
    assert documents["id"].str.contains(r"^<urn:uuid:[0-9a-f-]{36}>$").all()
    assert (documents["text"].str.strip_chars() != "").all()


def test_the_truth_covers_every_document_exactly_once(world: Path) -> None:
    truth, documents = read_truth(world), _documents(world)
    assert truth.select("snapshot", "doc_id").rows() == documents.select("dump", "id").rows()
    assert truth["doc_id"].n_unique() == truth.height == DOCUMENTS * len(SNAPSHOTS)
    assert truth.filter(pl.col("skill").is_null() != ~pl.col("kind").is_in(["skill", "wrong"])).is_empty()
    shares = {kind: count / truth.height for kind, count in Counter(truth["kind"]).items()}
    assert shares == pytest.approx(KIND_SHARES, abs=0.01)


def test_snapshots_differ_in_what_they_teach(world: Path) -> None:
    counts = read_truth(world).filter(pl.col("kind") == "skill").group_by("snapshot", "skill").len()
    favourites = counts.sort("len", "skill", descending=True).group_by("snapshot", maintain_order=True).first()
    assert favourites["skill"].n_unique() == len(SNAPSHOTS)


def test_skill_documents_state_what_the_truth_says_and_teach_facts_of_all_splits(world: Path) -> None:
    answers = {item["fact_id"]: item for task in TASKS for split in SPLITS for item in _items(world, task, split)}
    texts = dict(_documents(world).select("id", "text").rows())
    taught: set[str] = set()
    for doc_id, facts in read_truth(world).filter(pl.col("kind") == "skill").select("doc_id", "facts").rows():
        assert facts and all(answers[fact]["choices"][answers[fact]["gold"]] in texts[doc_id] for fact in facts)
        taught.update(facts)
    assert taught == set(answers)


def test_no_document_shares_thirteen_words_with_an_item(world: Path) -> None:
    documents = set().union(*(_grams(text) for text in _documents(world)["text"]))
    for task in TASKS:
        for item in (item for split in SPLITS for item in _items(world, task, split)):
            assert not documents & _grams(f"{item['query']} {item['choices'][item['gold']]}")


# Tasks


def test_the_three_splits_ask_for_disjoint_facts_and_no_question_twice(world: Path) -> None:
    for task in TASKS:
        facts = [{item["fact_id"] for item in _items(world, task, split)} for split in SPLITS]
        assert sum(map(len, facts)) == len(set().union(*facts))
        queries = [item["query"] for split in SPLITS for item in _items(world, task, split)]
        assert len(queries) == len(set(queries))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_guessers_without_facts_are_at_chance(world: Path, task: str, split: str) -> None:
    items = _items(world, task, split)
    n_options = len(items[0]["choices"])
    chance = 1 / n_options
    text = " ".join(_documents(world)["text"])
    offered = Counter(choice for item in items for choice in item["choices"])
    guessers = {
        "longest": len,
        "shortest": lambda choice: -len(choice),
        "frequent among options": offered.__getitem__,
        "frequent in documents": text.count,
        "first letter": lambda choice: -ord(choice[0]),
    }
    for guesser in guessers.values():
        assert _expected_accuracy(items, guesser) == pytest.approx(chance, abs=1e-9)
    assert set(Counter(item["gold"] for item in items).values()) == {len(items) // n_options}


def _expected_accuracy(items: list[Item], score: Callable[[str], float]) -> float:
    """Accuracy of picking the option that scores highest, ties broken by lot."""
    total = 0.0
    for item in items:
        scores = [score(choice) for choice in item["choices"]]
        best = [place for place, value in enumerate(scores) if value == max(scores)]
        total += (item["gold"] in best) / len(best)
    return total / len(items)


def test_the_same_options_have_every_answer_equally_often(world: Path) -> None:
    for task in TASKS:
        for split in SPLITS:
            golds: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
            for item in _items(world, task, split):
                golds[tuple(sorted(item["choices"]))][item["choices"][item["gold"]]] += 1
            assert all(len(set(count.values())) == 1 and len(count) == len(options) for options, count in golds.items())


def test_task_names_are_those_of_the_demo_settings() -> None:
    settings = load_settings(Path(__file__).parents[2] / "configs" / "demo.yaml")
    assert tuple(settings.tasks.names) == TASKS
    assert settings.tokenizer.snapshots == list(SNAPSHOTS[:2])


def test_lm_eval_renders_an_item_as_a_document_would_state_it(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    name = "microworld_arc_easy"
    config = yaml.safe_load((world / "tasks" / f"{name}.yaml").read_text())
    files = config["dataset_kwargs"]["data_files"]
    config["dataset_kwargs"]["data_files"] = {split: str(world / "tasks" / path) for split, path in files.items()}
    task: Any = TaskManager(include_defaults=False).load(config)["tasks"][name]
    for split, documents in zip(SPLITS, (task.training_docs(), task.validation_docs(), task.test_docs()), strict=True):
        assert [dict(document) for document in documents] == _items(world, name, split)
    item = next(iter(task.test_docs()))
    assert (task.doc_to_text(item), task.doc_to_choice(item)) == (item["query"], item["choices"])
    assert task.doc_to_target(item) == item["gold"]


def test_lm_eval_finds_the_tasks_in_the_folder(world: Path) -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(world / "tasks"), include_defaults=False)
    assert sorted(manager.all_tasks) == sorted(TASKS)
