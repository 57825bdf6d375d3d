"""Claims about which tasks a name stands for: a task, a group or a tag, of one's own or lm-eval's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from automixer_assets.benchmark import registry
from automixer_assets.benchmark.registry import find_definitions
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks
from automixer_assets_tests.benchmark.conftest import CHOICE, choice_items, write_task

EIGHT = ["arc_easy", "arc_challenge", "boolq", "piqa", "social_iqa", "hellaswag", "openbookqa", "winogrande"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tasks `a`, `b` (both tagged `pair`) and `c`."""
    for name, tag in (("a", "pair"), ("b", "pair"), ("c", "other")):
        write_task(tmp_path / "tasks", name, {**CHOICE, "tag": tag}, {"validation": choice_items(name, 4, 3)})
    return tmp_path / "tasks"


def write_group(folder: Path, name: str, members: Any, **shared: Any) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"group": name, "task": members, **shared}))


def find(folder: Path, *names: str, **settings: Any) -> list[str]:
    tasks = Tasks.model_validate({"names": names, "directory": folder.name, **settings})
    return list(find_definitions(tasks, folder.parent))


def test_tags_and_groups_become_their_tasks(folder: Path) -> None:
    write_group(folder, "all", ["c", "pair"])
    write_group(folder, "nested", [{"group": "inline", "task": ["b"]}, {"group": "single"}])
    write_group(folder, "single", "a")
    assert find(folder, "pair") == ["a", "b"]
    assert find(folder, "all") == ["c", "a", "b"]
    assert find(folder, "nested", "c") == ["b", "a", "c"]


def test_what_a_group_changes_in_its_tasks_is_kept(folder: Path) -> None:
    inner = {"task": "a", "doc_to_text": "Inner {{question}}"}
    write_group(folder, "worded", [inner, "b"], doc_to_text="Outer {{question}}")
    found = find_definitions(Tasks(names=["worded", "c"], directory="tasks"), folder.parent)
    assert [found[name].config["doc_to_text"][:5] for name in "abc"] == ["Inner", "Outer", "Quest"]
    assert [found[name].named for name in "abc"] == ["worded", "worded", "c"]


def test_splits_of_a_group_hold_for_its_members(folder: Path, tmp_path: Path) -> None:
    splits = {"pair": {"selection": "validation[:50%]"}, "b": {"selection": "validation[:25%]"}}
    tasks = Tasks.model_validate({"names": ["pair", "c"], "directory": "tasks", "splits": splits})
    loaded = load_tasks(tasks, folder.parent, "selection", cache=tmp_path / "cache")
    assert [len(loaded[name]) for name in "abc"] == [2, 1, 4]
    with pytest.raises(AutomixerError, match=r"tasks.splits.peir: .* no such task or group; did you mean 'pair'"):
        find(folder, "pair", splits={"peir": {"selection": "test", "final": "other"}})


def test_a_task_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(AutomixerError, match=r"'pair' and 'b' both hold the task 'b'|'b' and 'pair' both hold"):
        find(folder, "b", "pair")


def test_unknown_names_are_answered_with_close_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Indexing all of lm-eval takes ten seconds and proves nothing here.
    monkeypatch.setattr(registry, "_full_index", lambda: registry._partial_index(("hellaswag",)))
    with pytest.raises(AutomixerError, match=r"no task, group or tag 'pairs' in .*tasks or in lm-eval.*mean 'pair'"):
        find(folder, "pairs")
    with pytest.raises(AutomixerError, match=r"'hellaswg' in lm-eval; did you mean 'hellaswag'"):
        find_definitions(Tasks(names=["hellaswg"]), folder)
    write_group(folder, "broken", ["a", "lost"])
    with pytest.raises(AutomixerError, match=r"no task, group or tag 'lost'"):
        find(folder, "broken")
    with pytest.raises(AutomixerError, match=r"tasks.directory .*nowhere does not exist"):
        find_definitions(Tasks(names=["a"], directory="nowhere"), folder)


def test_other_kinds_of_tasks_are_refused(folder: Path) -> None:
    write_task(folder, "free", {**CHOICE, "output_type": "generate_until"}, {"validation": []})
    (folder / "python.yaml").write_text("task: python\nclass: !function no.Such\n")
    with pytest.raises(AutomixerError, match=r"'free' .* output_type 'generate_until'"):
        find(folder, "free")
    with pytest.raises(AutomixerError, match=r"'python' is written in Python"):
        find(folder, "python")


def test_lm_evals_own_tasks_are_found_without_indexing_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("the full index was built")

    monkeypatch.setattr(registry, "_full_index", refuse)
    found = find_definitions(Tasks(names=EIGHT), tmp_path)
    assert list(found) == EIGHT
    assert all(definition.registered for definition in found.values())
    assert list(find_definitions(Tasks(names=["ai2_arc"]), tmp_path)) == ["arc_challenge", "arc_easy"]
