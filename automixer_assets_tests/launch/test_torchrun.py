"""Claims about processes under torchrun as the program that started them sees it: what they say and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.torchrun import Listener, TrainingProcessError, train_under_torchrun
from automixer_assets.settings import Torchrun
from automixer_assets_tests.test_kill_and_resume import killed_at_the_end

ROOT = Path(__file__).parents[2]
ENDING = "automixer_assets_tests.launch.ending"
PATIENCE = 120.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def ended(processes: Iterable[psutil.Process]) -> bool:
    """Whether all are gone soon, or wait as zombies for whoever adopted them."""
    deadline, left = time.monotonic() + PATIENCE, list(processes)
    while left := [process for process in left if _runs(process)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def launch(manner: str, logs: Path, lines: list[str], steps: list[tuple[float, ...]] | None = None) -> None:
    listener = Listener(lambda *step: (steps if steps is not None else []).append(step), lines.append)
    train_under_torchrun(ENDING, [manner], Torchrun(processes=2), logs, listener, "demo/proxy_run")


def test_a_refusal_arrives_in_its_own_words_after_what_was_said_before(tmp_path: Path) -> None:
    lines: list[str] = []
    steps: list[tuple[float, ...]] = []
    with pytest.raises(AutomixerError, match=r"^snapshot X is empty: choose another$"):
        launch("refused", tmp_path, lines, steps)
    assert "begun" in lines
    assert set(steps) == {(1, 2.5, 0.1, 640.0)}


def test_a_killed_process_is_taken_for_one_that_ran_out_of_memory(tmp_path: Path) -> None:
    message = r"^demo/proxy_run: training process 1 of 2 ran out of memory \(exit code -9: killed\): lower "
    with pytest.raises(AutomixerError, match=message):
        launch("killed", tmp_path, [])


def test_so_is_one_that_says_so_itself(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"training process 1 of 2 ran out of memory \(exit code 1\): lower "):
        launch("starved", tmp_path, [])


def test_another_failure_names_the_process_and_quotes_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingProcessError) as raised:
        launch("broken", tmp_path, [])
    first, *last = str(raised.value).splitlines()
    said, log = first.split(", all of it in ")
    assert said == "demo/proxy_run: training process 1 of 2 ended with exit code 1; it last said"
    assert last[-1] == "ValueError: the device is lost"
    assert Path(log.removesuffix(":")).read_text().startswith("a library's warning\n")


def test_what_interrupts_the_starter_ends_all_processes(tmp_path: Path) -> None:
    class Cancelled(BaseException):
        """As Dagster interrupts a step: not an Exception."""

    started: list[psutil.Process] = []

    def cancel(line: str) -> None:
        started.append(psutil.Process(int(line.removeprefix("process "))))
        if len(started) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        listener = Listener(lambda *step: None, cancel)
        train_under_torchrun(ENDING, ["waiting"], Torchrun(processes=2), tmp_path, listener, "demo/proxy_run")
    assert len(started) == 2
    assert ended(started)


STARTER = """
    import sys
    from pathlib import Path
    from automixer_assets.launch.torchrun import Listener, train_under_torchrun
    from automixer_assets.settings import Torchrun

    listener = Listener(lambda *step: None, lambda line: print(line, flush=True))
    train_under_torchrun(sys.argv[1], ["waiting"], Torchrun(processes=2), Path(sys.argv[2]), listener, "demo")
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_starter_that_was_killed(sent: signal.Signals, tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STARTER), ENDING, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with killed_at_the_end(starter):
        assert starter.stdout is not None
        trained = [psutil.Process(int(starter.stdout.readline().removeprefix("process "))) for _ in range(2)]
        everyone = {*trained, *(parent for process in trained for parent in [process.parent()] if parent is not None)}
        assert len(everyone) == 3, "two processes and torchrun"
        starter.send_signal(sent)
        assert ended(everyone)
