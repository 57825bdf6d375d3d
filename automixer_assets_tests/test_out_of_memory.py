"""Running out of memory is said with a remedy, and not tried again; other errors of the same classes are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import torch
from dagster._core.errors import DagsterExecutionInterruptedError

from automixer_assets.lake_asset import Scope, lake_asset
from automixer_assets.out_of_memory import KILLED, is_out_of_memory
from automixer_assets.resources import Automixer
from automixer_assets_tests.world import tiny_settings


class OutOfMemoryException(Exception):
    """DuckDB's has this name."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
        OutOfMemoryException("failed to allocate data"),
    ],
)
def test_it_is_recognised(error: Exception):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), OSError(2, "no file")])
def test_other_errors_are_not_taken_for_it(error: Exception):
    assert not is_out_of_memory(error)


def test_a_killed_process_is_recognised_in_dagsters_words():
    assert KILLED.search("Run execution process for abc was terminated by signal 9 (SIGKILL).")
    assert not KILLED.search("Run execution process for abc was terminated by signal 15 (SIGTERM).")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("AUTOMIXER_STATE", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def materialize_failing(
    instance: dg.DagsterInstance, error: BaseException, tried: list[str]
) -> dg.ExecuteInProcessResult:
    """Run an asset of the accelerator's pool whose work raises `error`; every try is noted."""

    def plan(scope: Scope):
        """Does it fail?"""

        def write(out: Path) -> None:
            tried.append(str(out))
            raise error

        return scope.build(write, lambda artifact: {})

    failing = lake_asset(asset="scores", group="g", kinds=set(), code="1", plan=plan, pool="accelerator")
    return dg.materialize(
        [failing.definition],
        instance=instance,
        resources={"automixer": Automixer(document=tiny_settings())},
        raise_on_error=False,
    )


def test_a_cancelled_run_is_not_started_anew(instance: dg.DagsterInstance):
    tried: list[str] = []
    assert not materialize_failing(instance, DagsterExecutionInterruptedError(), tried).success
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("error", "tries", "said"),
    [(MemoryError("no room"), 1, "scores ran out of memory (no room): lower"), (RuntimeError("device lost"), 3, None)],
)
def test_what_may_pass_is_tried_again_and_what_cannot_is_not(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int, said: str | None
):
    monkeypatch.setattr("automixer_assets.lake_asset.RETRY_SECONDS", 0)
    tried: list[str] = []
    result = materialize_failing(instance, error, tried)
    assert not result.success
    assert len(tried) == tries
    failure = next(event.step_failure_data for event in result.all_events if event.is_step_failure)
    description = failure.user_failure_data.description if failure.user_failure_data else None
    assert (description or "")[: len(said or "")] == (said or "")
