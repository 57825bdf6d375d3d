"""The tokenizer that an imported proxy brings: that of its last checkpoint with one, or the one its settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import digest_of, file_sha256
from automixer_assets.proxy.imported import find_checkpoints, wanted_checkpoints
from automixer_assets.proxy.imported_inspection import tokenizer_files
from automixer_assets.proxy.imported_stores import open_store
from automixer_assets.settings import CheckpointSource


class ImportedTokenizer:
    """Where it lies, and when it changed."""

    def __init__(self, source: CheckpointSource, resolve: Callable[[str], Path]) -> None:
        self._store = open_store(source, resolve)
        self._given = None if source.tokenizer is None else resolve(source.tokenizer)
        self._names = [name.name for name in wanted_checkpoints(source, find_checkpoints(source, self._store))]

    def version(self) -> str:
        """Of revisions their commits, which need no download; of folders a digest of the tokenizer's files."""
        revisions = [self._store.revision(name) for name in self._names]
        if revisions and None not in revisions:
            return digest_of(revisions)
        return digest_of({path.name: file_sha256(path) for path in tokenizer_files(self.folder())})

    def folder(self) -> Path:
        """A local folder with the tokenizer's files; AutomixerError when there is none."""
        for name in reversed(self._names):
            own = self._store.fetch(name)
            if own is not None and (own / "tokenizer.json").is_file():
                return own
        if self._given is None:
            raise AutomixerError(
                f"none of {len(self._names)} checkpoints in {self._store.place} has a tokenizer.json: name a folder "
                "that has one as checkpoints_from.tokenizer"
            )
        return self._given
