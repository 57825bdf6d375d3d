"""A bucket of its own per test on a local S3 server; these tests are skipped, visibly, where the extra is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from automixer_assets.lake_cache import LakeCache
from automixer_assets.object_store import ObjectStore
from automixer_assets.remote_lake import RemoteLake
from automixer_assets_tests.s3.server import S3Server, serving

NEEDED = ("s3fs", "moto", "boto3")
REQUIRED = "AUTOMIXER_REQUIRE_S3"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
CACHE_BYTES = 10**9


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing and not os.environ.get(REQUIRED):
        pytest.skip(f"{missing[0]} is not installed: run `make test-s3`")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with serving() as server:
            patch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
            yield server


def new_bucket(server: S3Server) -> str:
    """s3://BUCKET/lake in a new bucket; the record of requests begins here."""
    boto3 = importlib.import_module("boto3")
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=server.endpoint).create_bucket(Bucket=bucket)
    server.requests.clear()
    return f"s3://{bucket}/lake"


@pytest.fixture
def url(s3_server: S3Server) -> Iterator[str]:
    yield new_bucket(s3_server)
    s3_server.faults.clear()


def open_remote(url: str, cache: Path, limit: int = CACHE_BYTES) -> RemoteLake:
    return RemoteLake(ObjectStore(url), LakeCache(cache, limit))


@pytest.fixture
def remote(url: str, tmp_path: Path) -> RemoteLake:
    return open_remote(url, tmp_path / "cache")
