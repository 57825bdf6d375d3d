"""Reading an imported run: its usable checkpoints, each compared with the digests of its import before it is used."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import file_sha256
from automixer_assets.proxy.imported import USABLE
from automixer_assets.proxy.imported_inspection import tokenizer_files
from automixer_assets.proxy.imported_stores import CheckpointStore
from automixer_assets.proxy.tokenizer import encoding_digest, load_tokenizer


@dataclass(frozen=True)
class ImportedRun:
    """The folder that `import_checkpoints` wrote."""

    folder: Path

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def total_steps(self) -> int:
        """The last step that the source names, usable or not."""
        return int(self.document["total_steps"])

    @cached_property
    def document(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text())

    @cached_property
    def steps(self) -> dict[int, dict[str, Any]]:
        """Rows of the usable checkpoints by step, ascending."""
        table = pl.read_parquet(self.folder / "checkpoints.parquet").filter(pl.col("status") == USABLE).sort("step")
        return {row["step"]: row for row in table.iter_rows(named=True)}

    def open(self, step: int, store: CheckpointStore) -> Path:
        """The checkpoint's folder in the store, its files as they were imported.

        Raises:
            AutomixerError: a file is gone or has changed.
        """
        folder = self._fetch(step, store)
        self._verify(step, folder)
        return folder

    def copy(self, step: int, store: CheckpointStore, tokenizer: Path, out: Path) -> None:
        """Copy a checkpoint's model files and the files of `tokenizer` into `out`; the copy is what is compared."""
        folder = self._fetch(step, store)
        for file in self._files(step)["file"]:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, out / file)
        self._verify(step, out)
        for path in tokenizer_files(tokenizer):
            shutil.copyfile(path, out / path.name)

    def require_encoding_of(self, tokenizer: Path, proxy: str) -> None:
        """Refuse a `tokenizer` asset that gives text other ids than the proxy was trained with."""
        if encoding_digest(load_tokenizer(tokenizer)) != encoding_digest(load_tokenizer(self.tokenizer)):
            raise AutomixerError(
                f"the tokenizer of this state ({tokenizer}) turns text into other ids than the one that proxy "
                f"{proxy!r} brought ({self.tokenizer}): set `tokenizer: {{proxy: {proxy}}}` in the settings"
            )

    def _fetch(self, step: int, store: CheckpointStore) -> Path:
        name = self.steps[step]["name"]
        folder = store.fetch(name, self.steps[step]["revision"])
        if folder is None:
            raise AutomixerError(f"checkpoint {name!r} is gone from {store.place}: restore it, or import again")
        return folder

    def _verify(self, step: int, folder: Path) -> None:
        name = self.steps[step]["name"]
        for file, sha256 in self._files(step).select("file", "sha256").iter_rows():
            path = folder / file
            if not path.is_file():
                raise AutomixerError(f"{file} of checkpoint {name!r} is gone: restore it, or import again")
            if file_sha256(path) != sha256:
                raise AutomixerError(
                    f"{file} of checkpoint {name!r} changed since it was imported: materialise proxy_run again"
                )

    def _files(self, step: int) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "files.parquet").filter(pl.col("name") == self.steps[step]["name"])
