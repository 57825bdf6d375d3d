"""Which tasks the settings name: YAML files in their folder or in lm-eval, groups and tags expanded to their members.

Only definitions are read here; data and items come later (`sources.py`, `tasks.py`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Tasks

Index = Mapping[str, Any]
"""lm-eval's entries by name: tasks, groups, tags."""


class UnknownName(Exception):
    """A name that no index has; its argument is the name."""


@dataclass(frozen=True)
class Definition:
    """A task's YAML, includes merged and functions resolved.

    `named` is the entry of `tasks.names` that it belongs to: itself, or a group or tag. `registered` says that the
    file is lm-eval's own and not from `tasks.directory`.
    """

    name: str
    named: str
    path: Path
    registered: bool
    config: dict[str, Any]


def find_definitions(tasks: Tasks, base: Path) -> dict[str, Definition]:
    """The tasks that the settings name, in the settings' order, members of a group in lm-eval's.

    Raises:
        AutomixerError: the folder does not exist, a name is unknown, a task is not multiple choice, stands in two
            groups, or `tasks.splits` has a key that is no task, group or tag in use.
    """
    folder = base / tasks.directory if tasks.directory is not None else None
    if folder is not None and not folder.is_dir():
        raise AutomixerError(f"tasks.directory {folder} does not exist; create it or mend the settings")
    index = _index(tuple(tasks.names), folder)
    found: dict[str, Definition] = {}
    try:
        for named in tasks.names:
            for name, overrides in _members(named, index, {}):
                _refuse_twice(name, named, found)
                found[name] = _definition(name, named, index, folder, overrides)
    except UnknownName as unknown:
        raise AutomixerError(_advice(unknown.args[0], index, folder)) from None
    _refuse_unknown_splits(tasks, found)
    return found


def _index(names: tuple[str, ...], folder: Path | None) -> Index:
    """An index that has the names and, if they are groups, their members; the settings' folder goes before lm-eval."""
    own = _own_index(folder)
    missing = tuple(name for name in names if name not in own)
    index = {**_partial_index(missing), **own} if missing else own
    return index if _complete(names, index) else {**_full_index(), **own}


def _own_index(folder: Path | None) -> Index:
    from lm_eval.tasks import TaskManager

    if folder is None:
        return {}
    return TaskManager(include_path=str(folder), include_defaults=False).task_index


@lru_cache(maxsize=4)
def _partial_index(names: tuple[str, ...]) -> Index:
    """Only those families of lm-eval (folders below its `tasks/`) in which one of the names is written.

    lm-eval's own index parses all of its 14,000 files, which takes ten seconds; looking for a word takes one.
    """
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    root = Path(lm_eval.tasks.__file__ or "").parent
    word = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])".encode())
    families = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    named = [str(folder) for folder in families if any(word.search(p.read_bytes()) for p in folder.rglob("*.yaml"))]
    return TaskManager(include_path=named, include_defaults=False).task_index if named else {}  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=1)
def _full_index() -> Index:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=True).task_index


def _complete(names: tuple[str, ...], index: Index) -> bool:
    try:
        return all(member in index for name in names for member, _ in _members(name, index, {}))
    except UnknownName:
        return False


def _members(name: str, index: Index, overrides: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(task, what its groups change in it) for each task that `name` stands for."""
    entry = index.get(name)
    if entry is None:
        raise UnknownName(name)
    kind = entry.kind.name
    if kind == "TAG":
        yield from ((member, overrides) for member in sorted(entry.tags))
    elif kind == "GROUP":
        yield from _group_members(entry.cfg, index, overrides)
    else:
        yield name, overrides


def _group_members(
    group: Mapping[str, Any], index: Index, overrides: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Members of a group as lm-eval's `TaskFactory` resolves them: names, names with changes, groups written inline."""
    from lm_eval.config.group import GroupConfig

    structure = set(GroupConfig.__dataclass_fields__)
    inherited = {key: value for key, value in group.items() if key not in structure} | overrides
    members = group.get("task") or []
    for member in [members] if isinstance(members, str) else members:
        if isinstance(member, str):
            yield from _members(member, index, inherited)
        elif "group" in member and member["group"] not in index:
            yield from _group_members(member, index, inherited)
        else:
            changes = {key: value for key, value in member.items() if key not in ("task", "group")}
            yield from _members(member.get("group") or member["task"], index, inherited | changes)


def _advice(name: str, index: Index, folder: Path | None) -> str:
    where = f"in {folder} or " if folder is not None else ""
    close = difflib.get_close_matches(name, index, n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "; mend tasks.names"
    return f"there is no task, group or tag {name!r} {where}in lm-eval{hint}"


def _refuse_twice(name: str, named: str, found: Mapping[str, Definition]) -> None:
    if name in found:
        raise AutomixerError(
            f"tasks.names: {named!r} and {found[name].named!r} both hold the task {name!r}; name one of them"
        )


def _definition(name: str, named: str, index: Index, folder: Path | None, overrides: dict[str, Any]) -> Definition:
    # A private module, but the only way to a task's merged YAML without building the task and loading its data.
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = index.get(name)
    if entry is None:
        raise UnknownName(name)
    if entry.kind.name != "TASK" or entry.yaml_path is None:
        raise AutomixerError(f"task {name!r} is written in Python, not as YAML; name another task")
    try:
        config = {**load_yaml(entry.yaml_path, resolve_func=True), **overrides}
    except Exception as error:  # it imports functions that the YAML names
        raise AutomixerError(f"cannot read task {name!r} from {entry.yaml_path}: {one_line(error)}; mend it") from error
    if config.get("output_type") != "multiple_choice":
        raise AutomixerError(
            f"task {name!r} in {entry.yaml_path} has output_type {config.get('output_type')!r}; "
            "only multiple_choice tasks can be used"
        )
    path = Path(entry.yaml_path)
    return Definition(name, named, path, folder is None or not path.is_relative_to(folder), config)


def _refuse_unknown_splits(tasks: Tasks, found: Mapping[str, Definition]) -> None:
    usable = {*found, *tasks.names}
    for name in tasks.splits:
        if name not in usable:
            close = difflib.get_close_matches(name, usable, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise AutomixerError(f"tasks.splits.{name}: tasks.names has no such task or group{hint}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
