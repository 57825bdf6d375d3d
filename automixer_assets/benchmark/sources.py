"""Where a task's items come from: the Hub, a cache of `datasets`, or local files in the task's own field names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automixer_assets.benchmark.registry import Definition, one_line
from automixer_assets.errors import AutomixerError
from automixer_assets.settings import TaskData

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {".jsonl": "json", ".parquet": "parquet"}
"""Local files that are understood, with the builder of `datasets` that reads them."""


def read_split(definition: Definition, split: str, key: str, data: TaskData, base: Path, cache: Path) -> Dataset:
    """The split's documents, in order, after the task's own `process_docs`.

    `split` may be a slice such as `validation[:50%]`; `key` is the setting that named it, for errors. `base` resolves
    `data.directory`; `cache` receives what `datasets` caches.

    Raises:
        AutomixerError: a file is missing, the data cannot be read, or the split is empty.
    """
    try:
        documents = _load(definition, split, key, data, base, cache)
        if len(documents) and definition.config.get("process_docs") is not None:
            documents = definition.config["process_docs"](documents)
    except AutomixerError:
        raise
    except Exception as error:  # datasets raises many kinds; the remedy is the same
        raise AutomixerError(
            f"cannot read split {split!r} of task {definition.name!r} ({definition.path}): {one_line(error)}; "
            f"mend its data files, tasks.data or {key}"
        ) from error
    if len(documents) == 0:
        raise AutomixerError(f"split {split!r} of task {definition.name!r} ({definition.path}) is empty; mend {key}")
    return documents


def task_folder(data: TaskData, base: Path, name: str) -> Path | None:
    """The folder of a registered task's local files, or None when its items come from elsewhere."""
    return base / str(data.directory) / name if data.source == "files" else None


def _load(definition: Definition, split: str, key: str, data: TaskData, base: Path, cache: Path) -> Any:
    from datasets import load_dataset

    path, name = str(definition.config.get("dataset_path")), definition.config.get("dataset_name")
    options = _options(definition)
    local = task_folder(data, base, definition.name)
    if definition.registered and local is not None:
        file = _local_file(local, split, definition.name, key)
        files = {_split_name(split): str(file)}
        return load_dataset(BUILDERS[file.suffix], data_files=files, split=split, cache_dir=str(cache))
    if definition.registered and data.source == "cache":
        return _from_cache(path, name, split, base / data.directory if data.directory else None)
    beside = definition.path.parent / path
    return load_dataset(str(beside) if beside.is_dir() else path, name, split=split, cache_dir=str(cache), **options)


def _options(definition: Definition) -> dict[str, Any]:
    """The YAML's own arguments of `load_dataset`; no remote code, and local files found beside the YAML."""
    options = dict(definition.config.get("dataset_kwargs") or {})
    options.pop("trust_remote_code", None)
    if "data_files" in options:
        options["data_files"] = _absolute(options["data_files"], definition)
    return options


def _from_cache(path: str, name: str | None, split: str, directory: Path | None) -> Any:
    """A data set as an earlier `load_dataset` left it on disk; this builder never asks the network."""
    from datasets.packaged_modules.cache.cache import Cache

    where = str(directory) if directory is not None else None
    cached = Cache(cache_dir=where, repo_id=path, dataset_name=path.rsplit("/")[-1], config_name=name, version="auto",
                   hash="auto")  # fmt: skip
    return cached.as_dataset(split=split)


def _local_file(folder: Path, split: str, task: str, key: str) -> Path:
    name = _split_name(split)
    for suffix in BUILDERS:
        path = folder / f"{name}{suffix}"
        if path.is_file() and path.stat().st_size:
            return path
        if path.is_file():
            raise AutomixerError(f"{path} is empty: split {split!r} of task {task!r} has no items; mend {key}")
    others = sorted(path.name for path in folder.glob("*") if path.suffix in BUILDERS)
    remedy = f"it has {', '.join(others)}: mend {key}" if others else "see `automixer tasks prepare`"
    raise AutomixerError(f"{folder / name}.jsonl, with split {split!r} of task {task!r}, does not exist; {remedy}")


def _split_name(split: str) -> str:
    """`validation` of `validation[:50%]`."""
    return re.split(r"[\[+]", split, maxsplit=1)[0]


def _absolute(data_files: Any, definition: Definition) -> Any:
    if isinstance(data_files, dict):
        return {split: _absolute(files, definition) for split, files in data_files.items()}
    if isinstance(data_files, list):
        return [_absolute(file, definition) for file in data_files]
    if "://" in str(data_files):
        return data_files
    path = definition.path.parent / str(data_files)
    if "*" not in path.name and not path.is_file():
        raise AutomixerError(
            f"task {definition.name!r} ({definition.path}) names the data file {path}, which does not exist"
        )
    return str(path)
