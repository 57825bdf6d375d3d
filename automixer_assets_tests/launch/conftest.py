from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from automixer_assets_tests.launch.nodes import two_nodes


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster
