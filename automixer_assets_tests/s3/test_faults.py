"""What an object store does on a bad day: throttling, cut connections, refusals, full caches."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from automixer_assets import object_store
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.lake import MARKER
from automixer_assets.object_store import ObjectStore
from automixer_assets.remote_lake import RemoteLake
from automixer_assets_tests.s3.conftest import open_remote
from automixer_assets_tests.s3.server import Answer, Request, S3Server, first, xml_error

CONTENT = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "FIRST_WAIT_SECONDS", 0.001)


def write_one(folder: Path) -> None:
    (folder / "one").write_bytes(CONTENT)


def test_throttling_is_waited_out_and_counted(
    remote: RemoteLake, s3_server: S3Server, caplog: pytest.LogCaptureFixture
):
    s3_server.faults.append(first(3, lambda request: xml_error("503 Slow Down", "SlowDown")))
    with caplog.at_level(logging.WARNING):
        artifact = remote.publish("kind", "d1", write_one)
    assert (artifact.path / "one").read_bytes() == CONTENT
    assert remote.store.retries == 3
    said = [record.getMessage() for record in caplog.records if record.name == object_store.__name__]
    assert len(said) == 3
    assert "SlowDown" in said[-1] and "(retry 3 of this process)" in said[-1]


def test_a_store_that_stays_down_is_one_sentence(remote: RemoteLake, s3_server: S3Server):
    s3_server.faults.append(lambda request: xml_error("503 Slow Down", "SlowDown"))
    with pytest.raises(AutomixerError, match=rf"{MARKER} failed 8 times .* see whether the store is up"):
        remote.find("kind", "d1")


def test_a_download_that_is_cut_midway_is_fetched_again(remote: RemoteLake, s3_server: S3Server, tmp_path: Path):
    remote.publish("kind", "d1", write_one)
    s3_server.faults.append(
        first(2, lambda request: Answer(cut=1000) if request.method == "GET" and request.path.endswith("one") else None)
    )
    elsewhere = open_remote(remote.store.url, tmp_path / "elsewhere")
    assert (elsewhere.open("kind/d1").path / "one").read_bytes() == CONTENT
    assert elsewhere.store.retries == 2


def test_an_answer_that_is_lost_after_the_marker_was_put_is_no_defeat(remote: RemoteLake, s3_server: S3Server):
    """The first try wins unseen; the second is told that the marker exists, and finds its own."""

    def lose(request: Request) -> Answer | None:
        if request.method != "PUT" or not request.path.endswith(MARKER):
            return None
        return replace(xml_error("500 Internal Server Error", "InternalError"), done=True)

    s3_server.faults.append(first(1, lose))
    artifact = remote.publish("kind", "d1", write_one)
    assert artifact.folder.exists(), "its own files are the first copy"
    assert artifact == remote.find("kind", "d1")
    assert remote.store.retries == 1


def test_an_object_that_was_truncated_is_named(remote: RemoteLake, tmp_path: Path):
    remote.publish("kind", "d1", write_one)
    remote.store.delete("kind/d1/one")
    remote.store.create("kind/d1/one", CONTENT[:-1])
    with pytest.raises(AutomixerError, match=r"s3://.*/kind/d1/one was changed: its sha256 is not"):
        _ = open_remote(remote.store.url, tmp_path / "elsewhere").open("kind/d1").path


def test_a_bucket_that_does_not_exist_is_named(s3_server: S3Server, tmp_path: Path):
    lake = open_remote("s3://no-such-bucket/lake", tmp_path)
    with pytest.raises(ConfigurationError, match="bucket no-such-bucket does not exist: create it"), lake.in_use():
        raise AssertionError("must not be reached")
    with pytest.raises(ConfigurationError, match="bucket no-such-bucket does not exist: create it"):
        lake.find("kind", "d1")


def test_missing_credentials_are_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"no credentials for s3://.*: set AWS_ACCESS_KEY_ID"):
        ObjectStore(url).read("kind/d1")


def test_a_refusal_says_what_to_allow(remote: RemoteLake, s3_server: S3Server):
    s3_server.faults.append(lambda request: xml_error("403 Forbidden", "AccessDenied"))
    with pytest.raises(AutomixerError, match=rf"no permission for s3://.*/{MARKER} .*allow s3:GetObject"):
        remote.find("kind", "d1")
    assert remote.store.retries == 0


def test_credentials_that_are_refused_are_named(remote: RemoteLake, s3_server: S3Server):
    s3_server.faults.append(lambda request: xml_error("403 Forbidden", "InvalidAccessKeyId"))
    with pytest.raises(ConfigurationError, match=r"credentials for s3://.* are refused \(InvalidAccessKeyId\)"):
        remote.find("kind", "d1")


def test_copies_stay_within_their_bound(remote: RemoteLake, tmp_path: Path):
    for number in range(4):
        remote.publish("kind", f"d{number}", write_one)
    small = open_remote(remote.store.url, tmp_path / "small", limit=3 * len(CONTENT))
    for number in range(4):
        with small.in_use():
            assert (small.open(f"kind/d{number}").path / "one").exists()
            assert sum(copy.size for copy in small.cache.copies()) <= small.cache.limit
    assert "kind/d3" in {copy.uri for copy in small.cache.copies()}


def test_inputs_that_do_not_fit_together_are_refused(remote: RemoteLake, tmp_path: Path):
    for number in range(2):
        remote.publish("kind", f"d{number}", write_one)
    small = open_remote(remote.store.url, tmp_path / "small", limit=len(CONTENT) + 10_000)
    with small.in_use():
        first_path = small.open("kind/d0").path
        with pytest.raises(AutomixerError, match=r"kind/d1 needs 1,048,576 bytes.*raise it"):
            _ = small.open("kind/d1").path
        assert (first_path / "one").exists(), "what is in use stays"
