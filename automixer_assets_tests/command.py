"""A project folder of its own for command-line tests: settings, one snapshot of 60 documents, a state, Dagster's home.

`Place.run` calls the entry point in this process; `Place.run_process` starts the real command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from automixer_assets.cli import main
from automixer_assets.microworld import write_microworld
from automixer_assets.resources import PROJECT_ROOT

SNAPSHOT = "MW-2026-01"
DOCUMENTS = 60
UNIFORM_ASSETS = (
    "snapshot_inventory",
    "tokenizer",
    "tokenized_corpus",
    "joint_influence",
    "grouped_shards",
    "weight_manifest",
)
"""All that a uniform mixture needs: nothing is trained."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The error message; there is one, and it is no stack trace."""
        assert "Traceback" not in self.stderr, self.stderr
        assert self.stderr.count("error: ") == 1, self.stderr
        return self.stderr.partition("error: ")[2].strip()


@dataclass(frozen=True)
class Place:
    """A folder with `settings.yaml`, `state/` and `home/`."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "settings.yaml"

    @property
    def snapshots(self) -> Path:
        return self.state / "microworld" / "snapshots"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AUTOMIXER_STATE": str(self.state),
            "AUTOMIXER_CONFIG": str(self.config),
            "DAGSTER_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }

    @contextlib.contextmanager
    def active(self, **environment: str) -> Iterator[pytest.MonkeyPatch]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            yield patch

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with self.active(), dg.DagsterInstance.get() as instance:
            yield instance

    def run(self, *arguments: str, **environment: str) -> Result:
        """The entry point in this process."""
        stdout, stderr, code = io.StringIO(), io.StringIO(), 0
        with self.active(**environment) as patch:
            patch.setattr(sys, "argv", ["automixer", *arguments])
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                try:
                    main()
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Result(code, stdout.getvalue(), stderr.getvalue())

    def run_process(self, *arguments: str) -> Result:
        """The command as a user starts it."""
        command = [sys.executable, "-m", "automixer_assets.cli", *arguments]
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def change_settings(self, change: Callable[[dict[str, Any]], object]) -> None:
        document = yaml.safe_load(self.config.read_text())
        change(document)
        self.config.write_text(json.dumps(document))  # JSON is YAML


def create_place(folder: Path) -> Place:
    """Settings and sources; nothing is registered or made yet."""
    place = Place(folder)
    (folder / "home").mkdir(parents=True)
    shutil.copy(PROJECT_ROOT / "dagster.yaml", folder / "home")
    place.config.write_text((PROJECT_ROOT / "configs" / "demo.yaml").read_text())
    place.change_settings(_make_small)
    write_microworld(place.state / "microworld", documents_per_snapshot=DOCUMENTS, snapshots=[SNAPSHOT])
    return place


def _make_small(settings: dict[str, Any]) -> None:
    settings["corpus"]["documents_per_shard"] = 25
    settings["tokenizer"] = {"vocab_size": 300, "snapshots": [SNAPSHOT]}
    settings["reference_sample"] = {"snapshots": [SNAPSHOT], "documents": 20}
    settings["proxies"]["demo"]["snapshots"] = [SNAPSHOT]
    settings["recipes"] = {"uniform": {"scorer": "uniform"}}
    settings["mixtures"] = {"uniform": {"recipe": "uniform", "token_budget": 10_000, "top_share": 1.0}}
    settings.pop("targets")


def create_finished_place(folder: Path) -> Place:
    """The same with the uniform mixture made."""
    place = create_place(folder)
    assert place.run("snapshot", "add", SNAPSHOT).code == 0
    selection = " or ".join(f"key:{name}" for name in UNIFORM_ASSETS)
    result = place.run("materialize", selection)
    assert result.code == 0, result.stderr
    return place
