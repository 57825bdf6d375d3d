"""Runs and events in PostgreSQL: the same pins, currency and partitions as with SQLite, on a real server."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automixer_assets.resources import PROJECT_ROOT, prepare_environment
from automixer_assets_tests.command import SNAPSHOT, UNIFORM_ASSETS, Place, create_place

SERVER_USER = "postgres"

PostgresEventLogStorage = pytest.importorskip(
    "dagster_postgres", reason="dagster-postgres is not installed: pip install -e '.[postgres]'"
).PostgresEventLogStorage


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database on a server of this test's own."""
    if shutil.which("postgres") is None or shutil.which("initdb") is None:
        pytest.skip("no PostgreSQL server is installed, or its programs are not on PATH: apt install postgresql")
    with tempfile.TemporaryDirectory(prefix="automixer-postgres-") as name:  # pytest's folders are root's alone
        folder = Path(name)
        as_user = _as_server_user(folder)
        initialise = ["initdb", "-D", f"{folder}/data", "-U", "automixer", "-A", "trust"]
        subprocess.run([*as_user, *initialise], check=True, capture_output=True)
        port = free_port()
        start = ["postgres", "-D", f"{folder}/data", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
        process = subprocess.Popen([*as_user, *start], stderr=(folder / "log").open("w"))
        try:
            _wait_for(port, process, folder / "log")
            yield f"postgresql+psycopg2://automixer@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(60)


def _as_server_user(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is needed to start PostgreSQL as another user than root")
    shutil.chown(folder, SERVER_USER)
    return ["setpriv", f"--reuid={SERVER_USER}", "--clear-groups"]


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def place(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AUTOMIXER_POSTGRES_URL", server)
    place = create_place(tmp_path / "place")
    shutil.copy(PROJECT_ROOT / "deploy" / "postgres" / "dagster.yaml", place.folder / "home")
    return place


def test_a_mixture_is_made_and_stays_current_with_its_events_in_postgres(place: Place):
    assert place.run("snapshot", "add", SNAPSHOT).code == 0
    made = [_materialize(place, asset) for asset in UNIFORM_ASSETS]
    assert made == ["1 materialised, 0 already current"] * len(UNIFORM_ASSETS)
    assert [_materialize(place, asset) for asset in UNIFORM_ASSETS] == ["0 materialised, 1 already current"] * len(made)
    with place.instance() as instance:
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
        assert instance.get_dynamic_partitions("snapshot") == [SNAPSHOT]
    assert not (place.state / "history").exists(), "nothing went to SQLite"


def test_the_environment_variable_alone_chooses_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("AUTOMIXER_STATE", str(tmp_path))
    monkeypatch.setenv("AUTOMIXER_POSTGRES_URL", "postgresql://host/database")
    prepare_environment()
    assert Path(os.environ["DAGSTER_HOME"]) == PROJECT_ROOT / "deploy" / "postgres"


def _materialize(place: Place, asset: str) -> str:
    """What the command says of an asset of the uniform mixture."""
    partition = {"joint_influence": ["--partition", "uniform"], "grouped_shards": ["--partition", "uniform"]}
    partition["weight_manifest"] = partition["grouped_shards"]
    result = place.run("materialize", asset, *partition.get(asset, []))
    assert result.code == 0, result.stderr
    return result.stdout.strip()
