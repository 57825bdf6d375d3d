"""Which code is running."""

from __future__ import annotations

import subprocess
from functools import lru_cache

from automixer_assets.resources import PROJECT_ROOT


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Commit of the working copy, with `-dirty` where it was changed; None outside a git checkout."""
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--match="]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
