from __future__ import annotations

import pytest

from automixer_assets_tests.export.cases import STANDARD, Case, Wanted, make_case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Groups of very different length, one that runs out, one without weight. Tests read it and change nothing."""
    return make_case(tmp_path_factory.mktemp("case"), [*STANDARD, Wanted("unweighted", 0.0, 5, 9)])


@pytest.fixture(scope="session")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The same under caps of two passes: the third group reaches its cap first, then the first."""
    return make_case(
        tmp_path_factory.mktemp("capped"),
        token_budget=60_000,
        exhaustion_policy="stop_and_raise_others",
        max_epochs=2.0,
    )
