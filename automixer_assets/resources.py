"""Where things are: settings file, state folder, lake. The only place that reads environment variables."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from automixer_assets.corpus.sources import SnapshotSources, open_sources
from automixer_assets.errors import ConfigurationError
from automixer_assets.lake import Lake
from automixer_assets.lake_address import open_lake
from automixer_assets.settings import Settings
from automixer_assets.settings_file import load_document, load_settings, parse_settings

POSTGRES_VARIABLE = "AUTOMIXER_POSTGRES_URL"
"""Where it is set, Dagster keeps runs and events in that PostgreSQL database (docs/operations.md)."""
PROJECT_ROOT = Path(__file__).resolve().parent.parent


def state_folder() -> Path:
    """AUTOMIXER_STATE, by default `.automixer` in the project's folder, or in the working directory without one."""
    home = PROJECT_ROOT if (PROJECT_ROOT / "dagster.yaml").exists() else Path.cwd()
    return Path(os.environ.get("AUTOMIXER_STATE") or home / ".automixer").absolute()


def config_path() -> Path:
    """AUTOMIXER_CONFIG, by default the demo's settings."""
    return Path(os.environ.get("AUTOMIXER_CONFIG") or PROJECT_ROOT / "configs" / "demo.yaml").absolute()


def prepare_environment(config: Path | None = None) -> None:
    """Give Dagster its home and one torch thread per process, unless the user chose otherwise.

    Raises:
        ConfigurationError: AUTOMIXER_STATE cannot be a folder, or there is no home for Dagster.
    """
    if config is not None:
        os.environ["AUTOMIXER_CONFIG"] = str(config.absolute())
    state = state_folder()
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the state folder {state} cannot be created ({error.strerror}): set AUTOMIXER_STATE to another one"
        ) from None
    os.environ["AUTOMIXER_STATE"] = str(state)
    os.environ["DAGSTER_HOME"] = str(_dagster_home())
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _dagster_home() -> Path:
    if chosen := os.environ.get("DAGSTER_HOME"):
        if not (Path(chosen).is_absolute() and Path(chosen).is_dir()):
            raise ConfigurationError(
                f"DAGSTER_HOME {chosen!r} is not the absolute path of a folder: "
                "correct it, or unset it to use the project's"
            )
        if Path(chosen) != PROJECT_ROOT and "AUTOMIXER_STATE" not in _dagster_yaml(Path(chosen)):
            sys.stderr.write(
                f"note: DAGSTER_HOME={chosen} is not this project's: its runs and materialisations are kept there, "
                "not below AUTOMIXER_STATE; unset it to use the project's\n"
            )
        return Path(chosen)
    if os.environ.get(POSTGRES_VARIABLE):
        return PROJECT_ROOT / "deploy" / "postgres"
    for folder in (Path.cwd(), PROJECT_ROOT):
        if (folder / "dagster.yaml").exists():
            return folder
    raise ConfigurationError("dagster.yaml was not found: run from the project's folder or set DAGSTER_HOME")


def _dagster_yaml(home: Path) -> str:
    path = home / "dagster.yaml"
    return path.read_text() if path.exists() else ""


class Automixer(dg.ConfigurableResource):
    """Settings and lake, with per-run overrides from the launchpad or `--set`."""

    overrides: dict[str, Any] = Field(
        default={},
        description="Settings to change for this run only, by dotted path, e.g. {recipes.demo.alpha: uniform}.",
    )

    document: dict[str, Any] | None = Field(
        default=None,
        description="The whole settings, frozen for a run of several steps; by default the file AUTOMIXER_CONFIG.",
    )

    def settings(self) -> Settings:
        if self.document is not None:
            return parse_settings(self.document, str(config_path()))
        return load_settings(config_path(), self.overrides)

    def frozen(self) -> Automixer:
        """The same with the settings as they are now, whatever is saved to the file later."""
        return Automixer(document=self.document or load_document(config_path(), self.overrides))

    def lake(self) -> Lake:
        """At AUTOMIXER_LAKE, a folder or a URL such as s3://bucket/prefix; by default below the state folder."""
        return open_lake(os.environ, state_folder())

    def sources(self) -> SnapshotSources:
        """Where the crawl snapshots lie."""
        corpus = self.settings().corpus
        return open_sources(corpus.directory, self.resolve, corpus.storage_options)

    def resolve(self, path: str) -> Path:
        """A settings path: absolute, or relative to the state folder."""
        return state_folder() / Path(path).expanduser()
