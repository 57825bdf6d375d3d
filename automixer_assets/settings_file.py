"""Reading settings: the YAML file, overrides by dotted path, and errors as sentences that name file and key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from automixer_assets.errors import AutomixerError
from automixer_assets.settings import Section, Settings
from automixer_assets.settings.simulation import IMPORTED, TRAINED

NOT_KEYS = ("[key]", TRAINED, IMPORTED)
"""What pydantic puts into an error's location beside the file's own keys."""


def load_settings(path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Read and validate a settings file; `overrides` maps dotted paths to values (`recipes.demo.alpha`: uniform).

    Raises:
        AutomixerError: one sentence per problem, naming the file and the key.
    """
    return parse_settings(load_document(path, overrides), str(path))


def load_document(path: Path, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings file as a mapping, overrides applied, not validated yet."""
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise AutomixerError(f"settings file {path} does not exist: set AUTOMIXER_CONFIG or pass --config") from None
    except yaml.YAMLError as error:
        raise AutomixerError(f"settings file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise AutomixerError(f"settings file {path} must hold a mapping of sections, such as `proxies:`")
    for dotted, value in (overrides or {}).items():
        _override(document, dotted, value)
    return document


def parse_settings(document: dict[str, Any], source: str = "settings") -> Settings:
    """Validate a settings mapping; errors are sentences naming `source` and the key."""
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise AutomixerError("\n".join(f"{source}: {_sentence(issue)}" for issue in error.errors())) from None


def _override(document: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    section = document
    for depth, parent in enumerate(parents):
        child = section.get(parent, {})
        if not isinstance(child, dict):
            raise AutomixerError(f"cannot override {dotted!r}: {'.'.join(parents[: depth + 1])!r} is not a section")
        section[parent] = section = dict(child)  # a copy: a YAML alias makes two sections one object
    section[last] = value


def _sentence(issue: Any) -> str:
    where = ".".join(str(part) for part in issue["loc"] if part not in NOT_KEYS) or "top level"
    if issue["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_suggestion(issue['loc'])}; remove or correct it"
    if issue["type"] == "missing":
        return f"key {where!r} is missing; add it"
    message = re.sub(r"^Value error, ", "", issue["msg"])
    return (
        f"{where!r}: {message} (given: {issue['input']!r})"
        if not isinstance(issue["input"], dict)
        else f"{where!r}: {message}"
    )


def _suggestion(location: tuple[Any, ...]) -> str:
    keys = {name for section in Section.__subclasses__() for name in section.model_fields} | {"preset"}
    close = difflib.get_close_matches(str(location[-1]), sorted(keys - {str(location[-1])}), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
