"""A lake in an object store, published whole or not at all without a rename.

Files are uploaded first, never over another's, and the marker last, by a put that succeeds only where there is none:
whoever wrote it has published, and another writer of the same digest takes what that one made. Objects without a
marker are no artefact. What readers get of them is said in `lake_copies.py`. No request lists anything, except where
artefacts are removed or a lake is copied. See docs/decisions/0011-lake-in-an-object-store.md.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from automixer_assets import remote_removal
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import (
    MARKER,
    PARTIAL,
    Artifact,
    Lake,
    StoredFile,
    Written,
    artifact_of,
    file_sha256,
    stored_file,
)
from automixer_assets.lake_cache import LakeCache
from automixer_assets.lake_copies import Copies
from automixer_assets.lake_users import REMOVER, USERS, User, blocked_by, this_user
from automixer_assets.object_store import ObjectStore
from automixer_assets.remote_removal import removal_key

OTHER = "_OTHER"
"""Below an artefact: files, named by sha256, whose own name a writer that published nothing had taken before."""


class RemoteLake(Lake):
    """Artefacts below a URL; `root` is the folder of their local copies, laid out as a local lake."""

    def __init__(self, store: ObjectStore, cache: LakeCache) -> None:
        super().__init__(cache.root)
        self.store, self.cache, self.copies = store, cache, Copies(store, cache)

    def location(self, uri: str) -> str:
        return self.store.location(uri)

    def local(self, uri: str) -> Path:
        kind, _, rest = uri.partition("/")
        artifact = self.find(kind, rest.partition("/")[0])
        if artifact is None:
            return self.root / uri
        name = rest.partition("/")[2]
        return artifact.file(name) if name in artifact.files else artifact.path / name

    def find(self, kind: str, digest: str) -> Artifact | None:
        content = self.store.read(f"{kind}/{digest}/{MARKER}")
        if content is None:
            return None
        return artifact_of(json.loads(content), kind, digest, self.root / kind / digest, self.copies)

    def stored(self, artifact: Artifact, name: str, *, digests: bool) -> StoredFile | None:
        key = f"{artifact.uri}/{artifact.objects.get(name, name)}"
        if not digests:
            size = self.store.size(key)
            return None if size is None else StoredFile(size, None)
        with self._scratch() as path:
            return stored_file(path, digests=True) if self.store.fetch(key, path) else None

    def unlisted(self, artifact: Artifact) -> list[str]:
        """Nothing: what a writer that published nothing left below an artefact is never read."""
        return []

    def artifacts(self) -> Iterator[Artifact]:
        return remote_removal.artifacts(self, self.store)

    def leftovers(self) -> dict[str, int]:
        return remote_removal.leftovers(self, self.store)

    def withdraw(self, uri: str, note: bytes | None) -> None:
        remote_removal.withdraw(self.store, uri, note)

    def withdrawn_size(self) -> int:
        return remote_removal.withdrawn_size(self, self.store)

    def sweep(self) -> None:
        remote_removal.sweep(self, self.store)

    def removal_note(self, uri: str) -> str | None:
        content = self.store.read(removal_key(uri))
        return None if content is None else content.decode().strip()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        user = this_user()
        with super().in_use():
            self.store.create(user.key, user.document)
            try:
                if (remover := self.store.read(REMOVER)) is not None:
                    raise AutomixerError(
                        f"artefacts of {self.store.url} are being removed by {User.read(REMOVER, remover)}: wait until "
                        f"that ends, then run again; if it is dead, delete {self.location(REMOVER)}"
                    )
                yield
            finally:
                self.cache.release()
                self.store.delete(user.key)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """As of a local lake. Users say that they are there before they look for a remover, and a remover the reverse:
        at least one of the two sees the other, whatever their clocks say."""
        with super().alone():
            if not self.store.create(REMOVER, this_user().document):
                holder = User.read(REMOVER, self.store.read(REMOVER) or b"{}")
                raise AutomixerError(
                    f"artefacts of {self.store.url} are being removed by {holder}: wait until that ends; if it is "
                    f"dead, delete {self.location(REMOVER)}"
                )
            try:
                for user in blocked_by(self.store, USERS):
                    raise AutomixerError(
                        f"something is being materialised by {user}: wait until it ends, or cancel it, then run again; "
                        f"if it is dead, delete {self.location(user.key)}"
                    )
                yield
            finally:
                self.store.delete(REMOVER)

    def adopt(self, artifact: Artifact, fill: Callable[[Path], None]) -> Artifact:
        try:
            return super().adopt(artifact, fill)
        finally:
            self.cache.release()  # whoever adopts a lake reads none of it

    def bring(self, artifact: Artifact, name: str, path: Path) -> None:
        self.copies.bring_to(artifact, name, path)

    def _require_files(self, artifact: Artifact) -> None:
        """Nothing: a file that is gone is noticed and named where it is fetched."""

    def _write(self, kind: str, digest: str, writer: Callable[[Path], Written | None], resumable: bool) -> Artifact:
        working = self.root / kind / f"{PARTIAL}{digest}"
        if (working / MARKER).exists():  # killed while it was uploaded: nothing is left to write
            return self._commit(kind, digest, working)
        return super()._write(kind, digest, writer, resumable)

    def _commit(self, kind: str, digest: str, working: Path) -> Artifact:
        marker, uri = json.loads((working / MARKER).read_text()), f"{kind}/{digest}"
        objects = {name: self._upload(uri, name, working / name, sha) for name, sha in marker["files"].items()}
        if moved := {name: stored for name, stored in objects.items() if stored != name}:
            marker["objects"] = moved
        self.store.create(f"{uri}/{MARKER}", json.dumps(marker, indent=1).encode() + b"\n")
        published = self.find(kind, digest)
        if published is None:
            raise AutomixerError(f"{self.location(uri)} vanished while it was published: run again")
        self.store.delete(removal_key(uri))
        self._keep_copy(published, working, marker)
        return published

    def _upload(self, uri: str, name: str, path: Path, sha256: str) -> str:
        """The name below the artefact under which the store holds this file now."""
        for stored in (name, f"{OTHER}/{sha256}"):
            if self.store.upload(f"{uri}/{stored}", path) or self._holds(f"{uri}/{stored}", sha256):
                return stored
        raise AutomixerError(
            f"{self.location(f'{uri}/{OTHER}/{sha256}')} has other bytes than its name says: delete it, then run again"
        )

    def _holds(self, key: str, sha256: str) -> bool:
        """Whether the object has these bytes: left by a killed upload, or of a writer that is at it too."""
        with self._scratch() as path:
            return self.store.fetch(key, path) and file_sha256(path) == sha256

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A name to fetch one object to, as long as it is looked at."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".object-", dir=self.root) as scratch:
            yield Path(scratch) / "object"

    def _keep_copy(self, published: Artifact, working: Path, marker: dict[str, Any]) -> None:
        """What was written is the first copy, if it is what was published and fits."""
        with self.copies.alone():
            if published.files != marker["files"] or self.copies.is_whole(published):
                shutil.rmtree(working)
                return
            shutil.rmtree(published.folder, ignore_errors=True)
            working.rename(published.folder)
            self.cache.hold(published.uri)
            self.cache.shrink()
