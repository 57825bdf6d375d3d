"""Where crawl snapshots lie: a local folder, or whatever fsspec reads (object stores, HTTP, a dataset on the Hub).

A listing tells a snapshot's files with size and version, which is enough to notice that one changed. Reading works on
local files only: those of a remote store are fetched into a cache by content, each once, and named by the sha256 that
the inventory records. So the cache may be deleted at any time, and what is read later is what was inventoried.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from automixer_assets.corpus.inventory import is_hidden, source_files
from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path
from automixer_assets.lake import digest_of, file_sha256

MARKER = "_SUCCESS"
"""What Spark and others write last into a folder."""
CHUNK_BYTES = 8 * 2**20
VERSION_FIELDS = ("sha256", "ETag", "etag", "blob_id", "oid", "md5Hash", "content_md5", "md5", "generation")
TIME_FIELDS = ("mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class ListedFile:
    """A file as its store lists it; `version` changes with the bytes, as far as the store can tell."""

    name: str
    size: int
    version: int | str


class SnapshotSources(Protocol):
    """Snapshots are the folders of one place; their Parquet files are what is read."""

    def location(self, snapshot: str) -> str:
        """How messages name the place of a snapshot."""
        ...

    def snapshots(self) -> list[str]:
        """The folders that are there, whatever they hold."""
        ...

    def has_marker(self, snapshot: str) -> bool: ...

    def list_files(self, snapshot: str) -> list[ListedFile]:
        """The Parquet files in name order; AutomixerError when there is none."""
        ...

    def fetch(self, snapshot: str, files: Sequence[ListedFile]) -> Path:
        """A local folder that holds the listed files; AutomixerError when they are not what was listed."""
        ...

    def restore(self, snapshot: str, inventoried: pl.DataFrame) -> Path:
        """A local folder that holds the inventoried files (columns `file`, `sha256`)."""
        ...


def open_sources(
    directory: str, resolve: Callable[[str], Path], storage_options: Mapping[str, Any] | None = None
) -> SnapshotSources:
    """The sources at `corpus.directory`: a path, or a URL such as s3://bucket/crawl or hf://datasets/ORG/NAME/data."""
    local = re.sub("^file://", "", directory)
    if "://" not in local:
        return LocalSources(resolve(local))
    return RemoteSources(directory, resolve("cache/sources"), dict(storage_options or {}))


def fingerprint(files: Sequence[ListedFile]) -> list[list[int | str]]:
    """What a listing says about the content, for digests."""
    return [[file.name, file.size, file.version] for file in files]


def require_unchanged(sources: SnapshotSources, snapshot: str, before: Sequence[ListedFile]) -> None:
    """Raise AutomixerError naming a file that came, went or changed since the listing `before`."""
    after = sources.list_files(snapshot)
    different = sorted({file.name for file in set(before) ^ set(after)})
    if different:
        raise AutomixerError(
            f"snapshot {sources.location(snapshot)} changed while it was read ({len(different)} files, first "
            f"{different[0]}): wait until it is complete, then run again"
        )


@dataclass(frozen=True)
class LocalSources:
    """Folders below `directory`; read where they are."""

    directory: Path

    def location(self, snapshot: str) -> str:
        return str(self.directory / snapshot)

    def snapshots(self) -> list[str]:
        if not self.directory.is_dir():
            return []
        return sorted(
            path.name for path in self.directory.iterdir() if path.is_dir() and not is_hidden(Path(path.name))
        )

    def has_marker(self, snapshot: str) -> bool:
        return (self.directory / snapshot / MARKER).exists()

    def list_files(self, snapshot: str) -> list[ListedFile]:
        files = source_files(self.directory / snapshot)
        return [ListedFile(file.name, file.size, file.mtime_ns) for file in files]

    def fetch(self, snapshot: str, files: Sequence[ListedFile]) -> Path:
        return self.directory / snapshot

    def restore(self, snapshot: str, inventoried: pl.DataFrame) -> Path:
        return self.directory / snapshot


class RemoteSources:
    """Folders below an fsspec URL, fetched into `cache`.

    `cache/content/SHA256` holds bytes, `cache/listed/DIGEST` says which bytes a listed file had, and
    `cache/snapshots/DIGEST/` links the files of one listing or inventory under their names.
    """

    def __init__(self, url: str, cache: Path, storage_options: Mapping[str, Any]) -> None:
        self.url, self.cache, self._options = url.rstrip("/"), cache, storage_options

    def location(self, snapshot: str) -> str:
        return f"{without_credentials(self.url)}/{snapshot}".rstrip("/")

    def snapshots(self) -> list[str]:
        with self._said(""):
            filesystem, root = self._open()
            entries = filesystem.ls(root, detail=True)
        names = [_last_part(entry["name"]) for entry in entries if entry["type"] == "directory"]
        return sorted(name for name in names if not is_hidden(Path(name)))

    def has_marker(self, snapshot: str) -> bool:
        with self._said(snapshot):
            filesystem, root = self._open()
            return bool(filesystem.exists(f"{root}/{snapshot}/{MARKER}"))

    def list_files(self, snapshot: str) -> list[ListedFile]:
        with self._said(snapshot):
            filesystem, root = self._open()
            folder = f"{root}/{snapshot}"
            files = [
                _listed(_below(str(entry["name"]), folder, snapshot), entry)
                for entry in _files_below(filesystem, folder)
                if str(entry["name"]).endswith(".parquet")
            ]
        files.sort(key=lambda file: file.name)
        if not files:
            raise AutomixerError(
                f"snapshot {self.location(snapshot)} holds no *.parquet file: put its files there, "
                "or withdraw it (`automixer snapshot remove`)"
            )
        return files

    def fetch(self, snapshot: str, files: Sequence[ListedFile]) -> Path:
        contents: dict[str, str] = {}
        for file in files:
            note = self.cache / "listed" / digest_of([self.url, snapshot, file.name, file.size, file.version])
            known = note.read_text() if note.exists() else None
            if known is None or not self._content(known).exists():
                known = self._download(snapshot, file.name)
                if (size := self._content(known).stat().st_size) != file.size:
                    raise AutomixerError(
                        f"{self.location(snapshot)}/{file.name} changed while it was read ({file.size:,} bytes listed, "
                        f"{size:,} read): wait until the snapshot is complete, then run again"
                    )
                with atomic_path(note) as temporary:
                    temporary.write_text(known)
            contents[file.name] = known
        return self._linked(contents)

    def restore(self, snapshot: str, inventoried: pl.DataFrame) -> Path:
        contents = dict(inventoried.select("file", "sha256").iter_rows())
        for name, sha256 in contents.items():
            content = self._content(sha256)
            if content.exists() and file_sha256(content) != sha256:
                content.unlink()  # damaged in the cache
            if not content.exists() and self._download(snapshot, name) != sha256:
                raise AutomixerError(
                    f"{self.location(snapshot)}/{name} changed since the inventory: "
                    "materialise snapshot_inventory again"
                )
        return self._linked(contents)

    def _open(self) -> tuple[Any, str]:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(self.url, **self._options)
        filesystem.invalidate_cache()
        return filesystem, str(root).rstrip("/")

    def _content(self, sha256: str) -> Path:
        return self.cache / "content" / sha256

    def _download(self, snapshot: str, name: str) -> str:
        """Fetch a file into the cache; returns its sha256."""
        digest = hashlib.sha256()
        passing = self.cache / "content" / digest_of([self.url, snapshot, name, os.getpid()])
        with self._said(f"{snapshot}/{name}"), atomic_path(passing) as temporary, temporary.open("wb") as local:
            filesystem, root = self._open()
            with filesystem.open(f"{root}/{snapshot}/{name}", "rb") as remote:
                while chunk := remote.read(CHUNK_BYTES):
                    digest.update(chunk)
                    local.write(chunk)
        passing.replace(self._content(digest.hexdigest()))
        return digest.hexdigest()

    def _linked(self, contents: Mapping[str, str]) -> Path:
        folder = self.cache / "snapshots" / digest_of(sorted(contents.items()))
        for name, sha256 in contents.items():
            link = folder / name
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(self._content(sha256).absolute())
        return folder

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """Whatever the store's library raises, as one sentence without credentials."""
        try:
            yield
        except FileNotFoundError:
            raise AutomixerError(
                f"{self.location(what)} does not exist: correct corpus.directory, or withdraw the snapshot "
                "(`automixer snapshot remove`)"
            ) from None
        except AutomixerError:
            raise
        except Exception as error:  # each store has its own exceptions
            reason = without_credentials(str(error).strip().split("\n", maxsplit=1)[0]) or type(error).__name__
            raise AutomixerError(
                f"{self.location(what)} cannot be read ({reason}): check the connection, the address and the "
                "credentials in the environment, then run again"
            ) from None


def without_credentials(text: str) -> str:
    """`text` without user names, passwords and query strings in the URLs that it holds."""
    text = re.sub(r"(\w+://)[^/@\s]+@", r"\1", text)
    return re.sub(r"(\w+://[^\s?]+)\?\S+", r"\1", text)


def _listed(name: str, entry: Mapping[str, Any]) -> ListedFile:
    lfs = entry.get("lfs") or {}
    marks = {**entry, "sha256": entry.get("sha256") or dict(lfs).get("sha256")}
    version = next((str(marks[field]) for field in (*VERSION_FIELDS, *TIME_FIELDS) if marks.get(field)), "")
    return ListedFile(name, int(entry["size"]), version)


def _below(path: str, folder: str, snapshot: str) -> str:
    """The name below the snapshot; some stores answer with another spelling of their root."""
    return path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else path.partition(f"/{snapshot}/")[2]


def _files_below(filesystem: Any, folder: str) -> Iterator[Mapping[str, Any]]:
    """Every listed file with its size. `filesystem.find` would leave out a folder that it cannot read, silently."""
    for entry in filesystem.ls(folder, detail=True):
        if is_hidden(Path(_last_part(entry["name"]))):
            continue
        if entry["type"] == "directory":
            yield from _files_below(filesystem, entry["name"])
        else:  # web servers list names only
            yield entry if entry.get("size") is not None else {**entry, **filesystem.info(entry["name"])}


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", maxsplit=1)[-1]
