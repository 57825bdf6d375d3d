"""A run killed at any moment ends as if nothing had happened: SIGKILL from outside, at random times."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from automixer_assets.settings import Architecture, Training
from automixer_assets_tests.proxy.test_train import digests, run

KILLS = 12
OPTIONS = {
    "plain": {},
    "accumulated": {
        "schedule": "warmup_stable_decay",
        "micro_batch_size": 1,
        "activation_checkpointing": True,
        "resume_every": 1,
    },
}
# Imports what is slow once, then forks a run again and again: kills are cheap, so they can be many, some during writes.
# A fork copies one thread, and a lock another held stays held for ever: polars, which starts threads, comes after it.
PROGRAM = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from automixer_assets.proxy.model import build_model
    from automixer_assets.settings import Architecture, Training

    architecture = Architecture.model_validate_json(sys.argv[1])
    training = Training.model_validate_json(sys.argv[2])
    folder, kills_wanted = Path(sys.argv[3]), int(sys.argv[4])
    generator, kills = random.Random(0), 0
    torch.set_num_threads(1)
    build_model(architecture, 64, 8, seed=0)
    threads = Path("/proc/self/task")
    assert not threads.exists() or len(list(threads.iterdir())) == 1, "a fork of several threads may hang"

    def fork(out):
        child = os.fork()
        if child == 0:
            from automixer_assets_tests.proxy.test_train import run

            run(out, architecture, training)
            os._exit(0)
        return child

    begun = time.monotonic()
    assert os.waitpid(fork(folder / "timed"), 0)[1] == 0
    longest = min(time.monotonic() - begun, 2)  # on a machine that is slow to write, a run may take a minute
    for number in range(1000):
        while True:
            child = fork(folder / f"run-{number}")
            time.sleep(generator.uniform(0, longest))
            if kills >= kills_wanted:
                assert os.waitpid(child, 0)[1] == 0
                sys.exit(0)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert status == 0
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
"""


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_runs_killed_at_random_moments_end_as_unbroken_ones(
    tmp_path: Path, architecture: Architecture, training: Training, options: dict[str, object]
) -> None:
    chosen = Training.model_validate(training.model_dump() | options)
    arguments = [architecture.model_dump_json(), chosen.model_dump_json(), str(tmp_path / "killed"), str(KILLS)]
    root = str(Path(__file__).parents[2])
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        cwd=root,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr
    unbroken = digests(run(tmp_path / "unbroken", architecture, chosen).folder)
    runs = list((tmp_path / "killed").iterdir())
    assert len(runs) >= 2
    for folder in runs:
        assert digests(folder) == unbroken
