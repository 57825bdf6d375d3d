"""What every section of the settings shares: strictness, keys, lists without repetition, names that must exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from automixer_assets.errors import AutomixerError

KEY_PATTERN = r"^[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*$"
Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN)]
"""A snapshot, proxy, recipe, mixture or task name: it becomes a partition key, a column or a file name."""


class Section(BaseModel):
    """Unknown keys are refused; instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def with_profile(given: Any, profiles: dict[str, dict[str, Any]]) -> Any:
    if not isinstance(given, dict):
        return given
    return {**profiles.get(given.get("profile", "paper"), {}), **given}


def distinct(values: Sequence[object], where: str) -> None:
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise ValueError(f"{where} lists {twice[0]!r} twice; list it once")


def known(name: str | None, names: dict[str, Any], where: str) -> None:
    if name is not None and name not in names:
        raise ValueError(f"{where} names {name!r}, which is not defined; defined are {', '.join(sorted(names))}")


def lookup(name: str, sections: dict[str, Any], kind: str) -> Any:
    if name not in sections:
        close = difflib.get_close_matches(name, sections, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AutomixerError(f"the settings define no {kind} {name!r}{hint} (defined: {', '.join(sorted(sections))})")
    return sections[name]
