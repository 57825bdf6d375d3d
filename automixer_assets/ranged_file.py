"""An object as a file that is read by ranges, each retried by the store."""

from __future__ import annotations

from fsspec.spec import AbstractBufferedFile

from automixer_assets.errors import AutomixerError
from automixer_assets.lake_path import OnFailure
from automixer_assets.object_store import OpenedObject

READ_AHEAD_BYTES = 2**18
"""Beyond what was asked for, so that the small reads of a Parquet footer are one request."""


class RangedFile(AbstractBufferedFile):
    """Read only, seekable; not for use by two threads at once."""

    def __init__(self, opened: OpenedObject, on_failure: OnFailure | None = None) -> None:
        self._opened, self._on_failure = opened, on_failure
        super().__init__(None, opened.key, "rb", block_size=READ_AHEAD_BYTES, cache_type="readahead", size=opened.size)  # pyright: ignore[reportArgumentType]

    def _fetch_range(self, start: int, end: int) -> bytes:
        try:
            return self._opened.read(start, min(end, self._opened.size))
        except AutomixerError as error:
            if self._on_failure is not None:
                self._on_failure(error)
            raise

    def close(self) -> None:
        self._opened.close()
        super().close()
