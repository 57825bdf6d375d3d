"""What travels to a submitted job: every kind of job comes back as it was, and nothing else is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.corpus.inventory import SourceFile
from automixer_assets.corpus.inventory_parts import MeetJob, Part, PartJob
from automixer_assets.corpus.shards import TokenShard
from automixer_assets.corpus.tokenize import TokenizingJob
from automixer_assets.errors import AutomixerError
from automixer_assets.influence.language_model import Backend
from automixer_assets.influence.score import PassOptions
from automixer_assets.launch.job import Job
from automixer_assets.launch.scoring import ScoringJob
from automixer_assets.launch.submission import KINDS, Submission, read_submission, write_submission
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.launch.jobs import Told

LAKE = Path("/lake/with 'quotes'")
OPTIONS = PassOptions(batch_tokens=2048, on_nonfinite="quarantine", backend=Backend(dtype="bfloat16"))
JOBS: dict[str, tuple[Job, Any]] = {
    "ScoringJob": (
        ScoringJob(LAKE / "step-1", LAKE / "query", LAKE / "out", "a1", "b2", OPTIONS, "cuda", 4),
        TokenShard("MW-2026-01", "shard-00000", LAKE / "tokens", "uint16"),
    ),
    "TokenizingJob": (TokenizingJob(LAKE / "i", LAKE / "s", LAKE / "t", LAKE / "o"), "shard-00000"),
    "MeetJob": (MeetJob(LAKE), Part(SourceFile("a.parquet", LAKE / "a.parquet", 12, 3), LAKE / "part-0")),
    "PartJob": (
        PartJob(LAKE, 5000),
        Part(SourceFile("b.parquet", LAKE / "b.parquet", 9, 4), LAKE / "part-1", (LAKE / "part-0",)),
    ),
}


def submission(job: Job, task: Any) -> Submission:
    return Submission(job, {"shard-00000": task}, RayCluster(workers=3, jobs="http://head:8265"), {"torch": "2.13"})


def test_every_kind_is_tried_here() -> None:
    assert set(JOBS) == set(KINDS)


@pytest.mark.parametrize("kind", JOBS)
def test_a_job_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    sent = submission(*JOBS[kind])
    write_submission(sent, tmp_path / "job.json")
    assert read_submission(tmp_path / "job.json") == sent


def test_a_kind_that_is_not_listed_is_neither_sent_nor_read(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match="no kind of job 'Told'"):
        write_submission(submission(Told(tmp_path), "a"), tmp_path / "job.json")
    (tmp_path / "job.json").write_text(json.dumps({"kind": "Popen", "job": {}, "tasks": {}}))
    with pytest.raises(AutomixerError, match="no kind of job 'Popen'"):
        read_submission(tmp_path / "job.json")


def test_a_file_that_no_node_sees_is_named(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"finds no .*job.json: put AUTOMIXER_STATE on a file system"):
        read_submission(tmp_path / "job.json")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    write_submission(submission(*JOBS["PartJob"]), tmp_path / "job.json")
    content = json.loads((tmp_path / "job.json").read_text())
    del content["job"]["documents_per_shard"]
    (tmp_path / "job.json").write_text(json.dumps(content))
    with pytest.raises(AutomixerError, match="no submission of this version"):
        read_submission(tmp_path / "job.json")
