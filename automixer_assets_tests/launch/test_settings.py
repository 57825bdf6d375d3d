"""Launchers in the settings: local unless asked for, and a clear refusal of what a stage cannot do."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from automixer_assets.settings.launchers import Launchers


def test_everything_is_local_by_default() -> None:
    assert Launchers().scoring == "local"


def test_ray_is_accepted_for_scoring() -> None:
    assert Launchers.model_validate({"scoring": "ray", "ray": {"workers": 4}}).ray.workers == 4


def test_torchrun_is_refused_for_scoring() -> None:
    with pytest.raises(ValidationError, match=r"launchers.scoring is 'torchrun'.*choose one of local, ray"):
        Launchers.model_validate({"scoring": "torchrun"})


def test_a_launcher_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match="'local', 'torchrun' or 'ray'"):
        Launchers.model_validate({"scoring": "slurm"})


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"cpus_per_worker": 0}, {"gpus_per_worker": -1}, {"patience_seconds": 0}]
)
def test_impossible_workers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Launchers.model_validate({"ray": wrong})
