"""Where imported checkpoints lie: a local folder of checkpoint folders, or a Hub repository with step revisions.

What belongs here: which names there are, when their content changed, and a local folder for each. What does not: what
is in a folder (see `imported.py`). Nothing is copied; the Hub's files lie in Hugging Face's own cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from automixer_assets.errors import AutomixerError
from automixer_assets.files import files_below
from automixer_assets.lake import digest_of
from automixer_assets.proxy.quiet import quiet
from automixer_assets.proxy.tokenizer import TOKENIZER_FILES
from automixer_assets.settings import CheckpointSource

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
NEEDED = [*MODEL_FILES, *TOKENIZER_FILES]
"""What is read of a checkpoint; pickled weights are not even downloaded."""


class CheckpointStore(Protocol):
    """A place that holds named checkpoints."""

    @property
    def place(self) -> str:
        """What a message calls it."""
        ...

    def names(self) -> list[str]:
        """All names there, checkpoints or not, in name order."""
        ...

    def version(self, name: str) -> str:
        """Changes whenever the checkpoint may have; cheap."""
        ...

    def revision(self, name: str) -> str | None:
        """The commit behind a Hub revision's name; None for a folder."""
        ...

    def fetch(self, name: str, revision: str | None = None) -> Path | None:
        """A local folder with the checkpoint's files (at that commit); None when there is none by that name."""
        ...


class DirectoryStore:
    """Checkpoint folders below one local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def place(self) -> str:
        return str(self.root)

    def names(self) -> list[str]:
        if not self.root.is_dir():
            raise AutomixerError(f"checkpoint folder {self.root} does not exist: mend checkpoints_from.directory")
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def version(self, name: str) -> str:
        """By names, sizes and modification times; contents are hashed when the import runs."""
        folder = self.root / name
        stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files_below(folder)]
        return digest_of([[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats])

    def revision(self, name: str) -> str | None:
        return None

    def fetch(self, name: str, revision: str | None = None) -> Path | None:
        folder = self.root / name
        return folder if folder.is_dir() else None


class HubStore:
    """Branches and tags of a Hub repository; without a connection, those in the local cache.

    `api` and `download` are `huggingface_hub.HfApi()` and `snapshot_download`, exchangeable for tests.
    """

    def __init__(
        self, repository: str, cache: Path | None, *, api: Any = None, download: Callable[..., Any] | None = None
    ) -> None:
        self.repository, self.cache = repository, cache
        self._api, self._download = api, download

    @property
    def place(self) -> str:
        return f"Hub repository {self.repository}"

    def names(self) -> list[str]:
        return sorted(self._commits)

    def version(self, name: str) -> str:
        return self._commits[name]

    def revision(self, name: str) -> str | None:
        return self._commits[name]

    def fetch(self, name: str, revision: str | None = None) -> Path | None:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RevisionNotFoundError

        # Asked for by name the first time: only then does the cache remember the name for use without a connection.
        wanted = revision or name
        try:
            with quiet():
                folder = (self._download or snapshot_download)(
                    repo_id=self.repository, revision=wanted, cache_dir=self.cache, allow_patterns=NEEDED
                )
        except RevisionNotFoundError:
            return None
        except Exception as error:  # whatever the connection or the cache came up with
            raise AutomixerError(
                f"cannot download revision {name!r} of {self.repository} ({_one_line(error)}): run again, finished "
                "files are kept; or leave it out of checkpoints_from.steps"
            ) from error
        return Path(folder)

    @cached_property
    def _commits(self) -> dict[str, str]:
        """Commit by name of every branch and tag."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            refs = (self._api or HfApi()).list_repo_refs(self.repository)
        except RepositoryNotFoundError as error:
            raise AutomixerError(
                f"{self.place} does not exist or is not public: mend checkpoints_from.repository, or log in with "
                "`hf auth login`"
            ) from error
        except Exception as error:  # no connection, or none wanted (HF_HUB_OFFLINE)
            if cached := self._cached_commits():
                return cached
            raise AutomixerError(
                f"cannot list the revisions of {self.place} ({_one_line(error)}), and none is in the cache: connect "
                "once, or give a local mirror as checkpoints_from.directory"
            ) from error
        return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}

    def _cached_commits(self) -> dict[str, str]:
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.file_download import repo_folder_name

        refs = (
            (self.cache or Path(HF_HUB_CACHE)) / repo_folder_name(repo_id=self.repository, repo_type="model") / "refs"
        )
        return {path.relative_to(refs).as_posix(): path.read_text().strip() for path in files_below(refs)}


def open_store(source: CheckpointSource, resolve: Callable[[str], Path]) -> CheckpointStore:
    """The store that the settings name; `resolve` turns a settings path into a place."""
    if source.repository is not None:
        return HubStore(source.repository, None if source.cache is None else resolve(source.cache))
    assert source.directory is not None
    return DirectoryStore(resolve(source.directory))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
