"""Skip, and say so, where a trainer's library is missing; under `make test-exports` that is a failure instead."""

from __future__ import annotations

import importlib
import os

import pytest


def require_library(module: str, package: str) -> None:
    """Call at the top of a test module that needs the library."""
    if os.environ.get("AUTOMIXER_REQUIRE_TRAINERS"):
        importlib.import_module(module)
    else:
        pytest.importorskip(module, reason=f"{package} is not installed: run `make test-exports`")
