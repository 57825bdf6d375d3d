"""A handover comes back as it was saved, for every kind of job and task; nothing else is taken."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import automixer_assets
from automixer_assets.corpus.inventory import SourceFile
from automixer_assets.corpus.inventory_parts import MeetJob, Part, PartJob
from automixer_assets.corpus.shards import TokenShard
from automixer_assets.corpus.tokenize import TokenizingJob
from automixer_assets.errors import AutomixerError
from automixer_assets.influence import Backend, PassOptions
from automixer_assets.influence.copies import DistinctShard
from automixer_assets.launch.handover import KINDS, Coded, Handover, decoded, encoded
from automixer_assets.launch.job import Job
from automixer_assets.launch.scoring import ScoringJob
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.influence import tiny
from automixer_assets_tests.influence.test_shards import write_shard
from automixer_assets_tests.launch.jobs import Told

LAKE = Path("/lake with spaces")
PART = Part(SourceFile("ä.parquet", LAKE / "ä.parquet", 3, 2**60 + 1), LAKE / "1", (LAKE / "0",))
SCORING = ScoringJob(
    LAKE / "checkpoint",
    LAKE / "query",
    LAKE / "out",
    "m",
    "t",
    PassOptions(40, backend=Backend(dtype="float16")),
    "cuda",
    4,
)
HANDOVERS: list[tuple[Any, Any]] = [
    (SCORING, TokenShard("2026", "shard-00000", LAKE, "uint16")),
    (SCORING, DistinctShard("2026", "shard-00000", LAKE, "uint16", (0, 7))),
    (MeetJob(LAKE), PART),
    (PartJob(LAKE, 1000), PART),
    (TokenizingJob(LAKE, LAKE / "a", LAKE / "b", LAKE / "c"), "shard-00000"),
]


@pytest.mark.parametrize(("job", "task"), HANDOVERS, ids=lambda value: type(value).__name__)
def test_a_handover_comes_back(job: Job, task: Any, tmp_path: Path) -> None:
    saved = Handover(job, {"one": task, "two": task}, RayCluster(job_server="http://head:8265"), {"torch": "2"})
    saved.save(tmp_path / "handover.json")
    assert Handover.load(tmp_path / "handover.json") == saved


def test_every_kind_is_handed_over_above() -> None:
    assert {type(value).__name__ for pair in HANDOVERS for value in pair} - {"str"} == set(KINDS)


HELD_HERE = {"JointJob", "AnswerJob", "TieJob", "EachJob"}
"""Of `launchers.mixture`, which settings refuse with a job server: they hold scorers and functions."""


def test_every_job_of_the_package_is_a_kind() -> None:
    """A stage that is given a job later must be able to submit it."""
    names = [module.name for module in pkgutil.walk_packages(automixer_assets.__path__, "automixer_assets.")]
    modules = [
        importlib.import_module(name) for name in names if not name.endswith("__main__") and "templates" not in name
    ]
    jobs = {
        name
        for module in modules
        for name, each in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Job") and hasattr(each, "open") and each.__module__.startswith("automixer_assets.")
    }
    assert jobs - {"Job"} - HELD_HERE == set(KINDS) & jobs
    assert jobs >= HELD_HERE


def test_what_a_shard_has_read_stays_here(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, tiny.documents([3, 4]))
    assert len(shard) == 2, "its table is kept in the shard now"
    assert set(encoded(shard).fields) == {"snapshot", "name", "folder", "dtype"}


def test_other_kinds_are_not_handed_over() -> None:
    with pytest.raises(TypeError, match=r"Told is not in launch\.handover\.KINDS"):
        encoded(Told(LAKE))
    with pytest.raises(AutomixerError, match="knows no Popen: install the version"):
        decoded(Coded(kind="Popen", fields={"args": "true"}))


def test_a_lake_that_the_head_does_not_mount_is_said(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"the head of the Ray cluster finds no .*mounts under the same path"):
        Handover.load(tmp_path / "elsewhere.json")
