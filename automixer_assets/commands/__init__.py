"""The commands of `automixer`, a module per family; here is what they share: options, consoles, settings, instance."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.resources import Automixer, prepare_environment, state_folder

if TYPE_CHECKING:
    import dagster as dg

errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

Config = Annotated[Path | None, typer.Option("--config", help="settings file; default: AUTOMIXER_CONFIG or the demo's")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="override a setting, e.g. --set recipes.demo.alpha=uniform")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON and nothing else")]


def open_automixer(config: Path | None, overrides: list[str] | None) -> Automixer:
    """Validate the settings before anything starts."""
    prepare_environment(config)
    try:
        automixer = Automixer(overrides=dict(_parse_override(text) for text in overrides or []))
        automixer.settings()
    except AutomixerError as error:
        raise ConfigurationError(str(error)) from None
    return automixer


def _parse_override(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigurationError(f"--set {text!r} is not of the form path=value, e.g. recipes.demo.alpha=uniform")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigurationError(f"--set {name}: the value {value!r} is not valid YAML; quote it") from None


def open_instance() -> dg.DagsterInstance:
    import dagster as dg

    state_folder().mkdir(parents=True, exist_ok=True)
    return dg.DagsterInstance.get()
