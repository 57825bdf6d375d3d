"""Running out of memory, in the words of Python, torch, DuckDB or the kernel, and what can be done about it."""

from __future__ import annotations

import re

MEMORY_REMEDY = (
    "lower corpus.documents_per_shard, the proxy's micro_batch_size, or concurrency.runs.max_concurrent_runs in "
    "dagster.yaml, or give it more memory; then run again, finished shards are kept"
)
KILLED = re.compile(r"exit code -9\b|\bsignal 9\b|SIGKILL")
"""How Dagster says that the kernel ended a run's process."""
ALLOCATION = re.compile(r"can't allocate memory|cannot allocate memory|std::bad_alloc|out of memory", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError and what libraries raise in its stead: theirs have names or words, but no common class."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "OutOfMemoryException"):
        return True
    return isinstance(error, (RuntimeError, OSError)) and ALLOCATION.search(str(error)) is not None


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
