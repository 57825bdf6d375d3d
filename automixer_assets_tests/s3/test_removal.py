"""Removal from an object store keeps writers out without leases, and a kill loses nothing that was to stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import MARKER
from automixer_assets.lake_removal import discard, nothing_running, trash_size
from automixer_assets.lake_users import REMOVER, USERS, this_user
from automixer_assets.remote_lake import RemoteLake
from automixer_assets_tests.s3.conftest import open_remote


def write_one(folder: Path) -> None:
    (folder / "one").write_text("1")


def test_what_is_removed_says_so_and_can_be_made_again(remote: RemoteLake, tmp_path: Path):
    for digest in ("d1", "d2"):
        remote.publish("kind", digest, write_one)
    with nothing_running(remote):
        discard(remote, "kind/d1", remote.root / "kind" / "d1", "since nothing used it")
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    with pytest.raises(AutomixerError, match=r"was removed by `automixer gc` on .*, since nothing used it"):
        elsewhere.open("kind/d1")
    assert [each.uri for each in remote.artifacts()] == ["kind/d2"]
    assert elsewhere.publish("kind", "d1", write_one).path.exists()
    assert elsewhere.removal_note("kind/d1") is None


def test_an_interrupted_removal_is_finished_by_the_next(remote: RemoteLake):
    remote.publish("kind", "d1", write_one)
    remote.store.create("kind/.removed-d1", b"was removed")
    remote.store.delete(f"kind/d1/{MARKER}")
    assert trash_size(remote) == 1
    with nothing_running(remote):
        pass
    assert [each.key for each in remote.store.list_below("")] == ["kind/.removed-d1"]


def test_a_materialisation_on_another_machine_keeps_a_removal_out(remote: RemoteLake):
    theirs = {"host": "far", "machine": "far", "process": 1}
    remote.store.create(f"{USERS}/theirs", json.dumps(theirs).encode())
    said = r"by process 1 on far: wait .* delete s3://.*/\.users/theirs"
    with pytest.raises(AutomixerError, match=said), nothing_running(remote):
        raise AssertionError("must not be reached")
    assert remote.store.read(REMOVER) is None


def test_a_process_that_was_killed_here_keeps_nobody_out(remote: RemoteLake):
    dead = json.loads(this_user().document) | {"process": 2**22 + 1}
    remote.store.create(f"{USERS}/dead", json.dumps(dead).encode())
    with nothing_running(remote):
        assert remote.store.read(f"{USERS}/dead") is None


def test_a_removal_keeps_materialisations_out(remote: RemoteLake, tmp_path: Path):
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    with nothing_running(remote):
        with pytest.raises(AutomixerError, match="are being removed by process"), elsewhere.in_use():
            raise AssertionError("must not be reached")
        with pytest.raises(AutomixerError, match="are being removed by process"), elsewhere.alone():
            raise AssertionError("must not be reached")
    with elsewhere.in_use():
        pass
    assert list(remote.store.list_below("")) == []
