"""`automixer lake copy`: between disk and store, resumed, verified, conflicts resolved."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from automixer_assets.cli import main
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER, Lake
from automixer_assets.lake_copy import copy_lake
from automixer_assets.remote_lake import OTHER, RemoteLake
from automixer_assets_tests.s3.conftest import open_remote
from automixer_assets_tests.s3.server import Answer, Request, S3Server

FILES = {"sub/one": b"1" * 1000, "two": b"2"}


def write_files(folder: Path) -> None:
    (folder / "sub").mkdir(exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back_everything_is_as_it_was(remote: RemoteLake, tmp_path: Path):
    origin, returned = Lake(tmp_path / "origin"), Lake(tmp_path / "returned")
    for digest in ("d1", "d2"):
        origin.publish("kind", digest, write_files)
    there = copy_lake(origin, remote)
    assert (there.copied, there.copied_bytes, there.present, there.differing) == (2, 2 * 1001, 0, [])
    again = copy_lake(origin, remote)
    assert (again.copied, again.present) == (0, 2)
    assert copy_lake(open_remote(remote.store.url, tmp_path / "elsewhere"), returned).copied == 2
    for digest in ("d1", "d2"):
        assert bytes_below(returned.root / "kind" / digest) == bytes_below(origin.root / "kind" / digest)


def test_files_that_another_writer_left_get_their_own_names(remote: RemoteLake, tmp_path: Path):
    remote.store.create("kind/d1/two", b"of a writer that was killed")
    published = remote.publish("kind", "d1", write_files)
    assert published.objects == {"two": f"{OTHER}/{hashlib.sha256(FILES['two']).hexdigest()}"}
    local = Lake(tmp_path / "local")
    copy_lake(open_remote(remote.store.url, tmp_path / "elsewhere"), local)
    found = bytes_below(local.root / "kind" / "d1")
    assert {name: found[name] for name in found if name != MARKER} == FILES
    assert "objects" not in json.loads(found[MARKER])


def test_an_interrupted_copy_goes_on(remote: RemoteLake, s3_server: S3Server, tmp_path: Path):
    remote.publish("kind", "d1", write_files)
    local, elsewhere = Lake(tmp_path / "local"), open_remote(remote.store.url, tmp_path / "elsewhere")

    def refuse(request: Request) -> Answer | None:
        if request.method == "GET" and request.path.endswith("/two"):
            return Answer("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")
        return None

    s3_server.faults.append(refuse)
    with pytest.raises(AutomixerError, match="no permission"):
        copy_lake(elsewhere, local)
    assert local.find("kind", "d1") is None
    s3_server.faults.clear()
    s3_server.requests.clear()
    assert copy_lake(elsewhere, local).copied == 1
    assert not [request for request in s3_server.requests if request.path.endswith("/one")], "it was there already"
    assert (local.open("kind/d1").path / "two").read_bytes() == FILES["two"]


def test_a_changed_file_is_not_copied(remote: RemoteLake, tmp_path: Path):
    origin = Lake(tmp_path / "origin")
    (origin.publish("kind", "d1", write_files).path / "two").write_bytes(b"3")
    with pytest.raises(AutomixerError, match=r"kind/d1/two is not what was published"):
        copy_lake(origin, remote)
    assert remote.find("kind", "d1") is None


def test_what_differs_is_left_and_named(remote: RemoteLake, tmp_path: Path):
    origin = Lake(tmp_path / "origin")
    origin.publish("kind", "d1", write_files)
    remote.publish("kind", "d1", lambda folder: (folder / "two").write_bytes(b"other") and None)
    assert copy_lake(origin, remote).differing == ["kind/d1"]
    assert remote.open("kind/d1").file("two").read_bytes() == b"other"


def test_the_command(
    remote: RemoteLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    Lake(tmp_path / "origin").publish("kind", "d1", write_files)
    monkeypatch.setenv("AUTOMIXER_STATE", str(tmp_path / "state"))
    arguments = ["automixer", "lake", "copy", str(tmp_path / "origin"), remote.store.url, "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == {
        "from": str(tmp_path / "origin"),
        "to": remote.store.url,
        "copied": 1,
        "copied_bytes": 1001,
        "present": 0,
        "differing": [],
    }
    monkeypatch.setattr("sys.argv", [*arguments[:3], str(tmp_path / "nowhere"), remote.store.url])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "holds no artefact: correct the address" in capsys.readouterr().err
