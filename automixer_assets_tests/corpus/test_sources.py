"""Snapshots are read alike from a folder, an object store, a web server and the Hub; what changes meanwhile is said."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import polars as pl
import pytest

from automixer_assets.corpus.inventory import take_inventory
from automixer_assets.corpus.sources import (
    LocalSources,
    RemoteSources,
    SnapshotSources,
    fingerprint,
    open_sources,
    require_unchanged,
    without_credentials,
)
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import file_sha256


def parquet_bytes(folder: Path, *texts: str) -> bytes:
    path = folder / "written.parquet"
    pl.DataFrame({"id": [f"doc-{text}" for text in texts], "text": list(texts)}).write_parquet(path)
    return path.read_bytes()


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """A crawl of one snapshot of two files, one in a subfolder, with what is no document beside them."""
    folder = tmp_path / "crawl"
    for name, texts in {"a.parquet": ["one", "two"], "part/b.parquet": ["three"]}.items():
        (folder / "S-1" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "S-1" / name).write_bytes(parquet_bytes(tmp_path, *texts))
    (folder / "S-1" / "_temporary").mkdir()
    (folder / "S-1" / "_temporary" / "half.parquet").write_bytes(b"PAR1")
    (folder / "S-1" / "_SUCCESS").touch()
    (folder / "S-2").mkdir()
    return folder


@pytest.fixture
def memory(crawl: Path) -> str:
    """The same crawl in an object store (fsspec's own, in memory)."""
    url = f"memory://{uuid4().hex}"
    filesystem = fsspec.filesystem("memory")
    for path in crawl.rglob("*"):
        if path.is_file():
            filesystem.pipe(f"{url}/{path.relative_to(crawl).as_posix()}", path.read_bytes())
    return url


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web(crawl: Path) -> Iterator[str]:
    handler = functools.partial(_Silent, directory=str(crawl))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(params=["local", "memory", "web"])
def sources(request: pytest.FixtureRequest, crawl: Path, tmp_path: Path) -> SnapshotSources:
    url = str(crawl) if request.param == "local" else request.getfixturevalue(request.param)
    return open_sources(url, lambda path: tmp_path / "state" / path)


def inventory(folder: Path, out: Path) -> pl.DataFrame:
    out.mkdir()
    take_inventory(folder, out, documents_per_shard=10)
    return pl.read_parquet(out / "files.parquet")


def test_every_store_gives_the_same_inventory(sources: SnapshotSources, crawl: Path, tmp_path: Path):
    assert sources.has_marker("S-1") and not sources.has_marker("S-2")
    assert "S-1" in sources.snapshots()
    files = sources.list_files("S-1")
    assert [file.name for file in files] == ["a.parquet", "part/b.parquet"]

    found = inventory(sources.fetch("S-1", files), tmp_path / "inventory")
    assert dict(found.select("file", "sha256").iter_rows()) == {
        name: file_sha256(crawl / "S-1" / name) for name in ("a.parquet", "part/b.parquet")
    }
    documents = pl.read_parquet(tmp_path / "inventory" / "documents" / "*.parquet")
    assert documents["doc_id"].to_list() == ["doc-one", "doc-two", "doc-three"]


@pytest.mark.parametrize("snapshot", ["S-2", "S-9"])
def test_a_snapshot_that_is_empty_or_gone_is_refused_by_name(sources: SnapshotSources, snapshot: str):
    with pytest.raises(AutomixerError, match=rf"{snapshot} (does not exist|holds no \*\.parquet file)"):
        sources.list_files(snapshot)


def test_file_urls_are_local(crawl: Path):
    assert open_sources(f"file://{crawl}", Path) == LocalSources(crawl)


def test_a_file_is_fetched_once_and_again_when_the_cache_is_gone(memory: str, tmp_path: Path):
    sources = RemoteSources(memory, tmp_path / "cache", {})
    files = sources.list_files("S-1")
    contents = tmp_path / "cache" / "content"
    sources.fetch("S-1", files)
    before = {path.name: path.stat().st_mtime_ns for path in contents.iterdir()}
    assert len(before) == 2
    assert before.keys() == {file_sha256(path) for path in contents.iterdir()}
    sources.fetch("S-1", files)
    assert {path.name: path.stat().st_mtime_ns for path in contents.iterdir()} == before, "nothing was fetched again"

    known = inventory(sources.fetch("S-1", files), tmp_path / "inventory")
    for path in contents.iterdir():
        path.unlink()
    folder = sources.restore("S-1", known)
    assert file_sha256(folder / "a.parquet") == known["sha256"][0]


def test_a_damaged_file_of_the_cache_is_fetched_again(memory: str, tmp_path: Path):
    sources = RemoteSources(memory, tmp_path / "cache", {})
    known = inventory(sources.fetch("S-1", sources.list_files("S-1")), tmp_path / "inventory")
    damaged = tmp_path / "cache" / "content" / known["sha256"][0]
    damaged.write_bytes(b"damaged")
    assert file_sha256(sources.restore("S-1", known) / "a.parquet") == known["sha256"][0]


def test_a_change_shows_in_the_listing_and_cannot_be_taken_for_what_was_inventoried(memory: str, tmp_path: Path):
    sources = RemoteSources(memory, tmp_path / "cache", {})
    files = sources.list_files("S-1")
    known = inventory(sources.fetch("S-1", files), tmp_path / "inventory")
    fsspec.filesystem("memory").pipe(f"{memory}/S-1/a.parquet", parquet_bytes(tmp_path, "one", "owt"))

    assert fingerprint(sources.list_files("S-1")) != fingerprint(files)
    with pytest.raises(AutomixerError, match=r"S-1 changed while it was read \(1 files, first a.parquet\): wait until"):
        require_unchanged(sources, "S-1", files)
    (tmp_path / "cache" / "content" / known["sha256"][0]).unlink()
    with pytest.raises(AutomixerError, match=r"S-1/a.parquet changed since the inventory: materialise"):
        sources.restore("S-1", known)


def test_a_file_that_grows_between_listing_and_reading_is_refused(memory: str, tmp_path: Path):
    sources = RemoteSources(memory, tmp_path / "cache", {})
    files = sources.list_files("S-1")
    fsspec.filesystem("memory").pipe(f"{memory}/S-1/a.parquet", parquet_bytes(tmp_path, *"grown"))
    with pytest.raises(AutomixerError, match=r"a.parquet changed while it was read \([\d,]+ bytes listed, [\d,]+ read"):
        sources.fetch("S-1", files)
    assert not (tmp_path / "cache" / "listed").exists(), "nothing is remembered of it"


def test_a_file_that_comes_while_a_local_snapshot_is_read_is_named(crawl: Path, tmp_path: Path):
    sources = LocalSources(crawl)
    files = sources.list_files("S-1")
    (crawl / "S-1" / "late.parquet").write_bytes(parquet_bytes(tmp_path, "late"))
    with pytest.raises(AutomixerError, match=r"changed while it was read \(1 files, first late.parquet\)"):
        require_unchanged(sources, "S-1", files)


def test_a_store_that_does_not_answer_is_said_in_one_sentence_without_credentials(tmp_path: Path):
    sources = RemoteSources("http://user:hunter2@127.0.0.1:9/crawl", tmp_path, {})
    with pytest.raises(AutomixerError, match=r"^http://127\.0\.0\.1:9/crawl/S-1 cannot be read \(.+\): check") as said:
        sources.list_files("S-1")
    assert "hunter2" not in str(said.value)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("https://x.org/a?token=abc&b=1 failed", "https://x.org/a failed"),
        ("no address", "no address"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, plain: str):
    assert without_credentials(text) == plain


class HubDataset:
    """Stands in for the Hub's API and downloads: the tree of a folder, laid out like FineWeb-Edu's `data/<dump>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repo_info(self, repo_id: str, **_: Any) -> object:
        return object()

    def list_repo_tree(self, repo_id: str, path: str = "", *, recursive: bool = False, **_: Any) -> Iterator[Any]:
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.hf_api import RepoFile, RepoFolder

        below = self.folder / path
        if not below.is_dir():
            raise EntryNotFoundError(path)
        for entry in sorted(below.rglob("*") if recursive else below.iterdir()):
            name = entry.relative_to(self.folder).as_posix()
            if entry.is_dir():
                yield RepoFolder(path=name, oid="0" * 40)
            else:
                lfs = {"oid": file_sha256(entry), "size": entry.stat().st_size, "pointerSize": 130}
                yield RepoFile(path=name, size=entry.stat().st_size, oid="1" * 40, lfs=lfs)

    def open(self, path: str) -> Any:
        return (self.folder / path.removeprefix("datasets/HuggingFaceFW/fineweb-edu/")).open("rb")


@pytest.fixture
def hub(crawl: Path, monkeypatch: pytest.MonkeyPatch) -> HubDataset:
    from huggingface_hub import HfApi, HfFileSystem

    (crawl / "S-1" / "_SUCCESS").unlink()  # datasets on the Hub have none
    crawl.rename(crawl.parent / "data")
    dataset = HubDataset(crawl.parent)
    monkeypatch.setattr(HfApi, "repo_info", lambda self, *given, **options: dataset.repo_info(*given, **options))
    monkeypatch.setattr(
        HfApi, "list_repo_tree", lambda self, *given, **options: dataset.list_repo_tree(*given, **options)
    )
    monkeypatch.setattr(HfFileSystem, "_open", lambda self, path, *given, **options: dataset.open(path))
    return dataset


def test_dumps_of_a_dataset_on_the_hub_are_snapshots(hub: HubDataset, tmp_path: Path):
    sources = RemoteSources("hf://datasets/HuggingFaceFW/fineweb-edu/data", tmp_path / "cache", {})
    assert sources.snapshots() == ["S-1", "S-2"]
    assert not sources.has_marker("S-1")
    files = sources.list_files("S-1")
    digests = {name: file_sha256(hub.folder / "data" / "S-1" / name) for name in ("a.parquet", "part/b.parquet")}
    assert {file.name: file.version for file in files} == digests, "the Hub's own sha256 is the version"
    found = inventory(sources.fetch("S-1", files), tmp_path / "inventory")
    assert dict(found.select("file", "sha256").iter_rows()) == digests
