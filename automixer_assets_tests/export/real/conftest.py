"""Cases for the tests with the trainers' own libraries, which have an environment of their own: `make test-exports`."""

from __future__ import annotations

import pytest

from automixer_assets_tests.export.cases import STANDARD, Case, Wanted, make_case

SEQUENCE_LENGTH = 64


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Documents of 10, 100 and 50 tokens; the third group is read 15 times, a fourth has no weight."""
    groups = [Wanted(g.name, g.weight, 10 * g.n_documents, g.length) for g in STANDARD]
    unweighted = Wanted("unweighted", 0.0, 50, 20)
    return make_case(tmp_path_factory.mktemp("large"), [*groups, unweighted], token_budget=1_000_000)


@pytest.fixture(scope="session")
def capped(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The same groups under caps of two passes, which the first and the third reach."""
    groups = [Wanted(g.name, g.weight, 10 * g.n_documents, g.length) for g in STANDARD]
    root = tmp_path_factory.mktemp("capped")
    return make_case(root, groups, token_budget=600_000, exhaustion_policy="stop_and_raise_others", max_epochs=2.0)
