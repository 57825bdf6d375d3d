"""The folder of an export: whose it is, which parts are finished, and a resume that gives the same bytes.

Below `.export/` lie, until the export is complete, `identity.json` (what is exported, by which version of which
format), `journal.jsonl` (a line per finished part with the digest of what it wrote), a working folder, and joined files
that only `finish` reads. A part's files are moved, or appended, to their places first and journalled then; so what the
journal does not name is written again, and a joined file is cut back to where the journal says that it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts
from automixer_assets.files import files_below, sync_folder, sync_tree, write_atomically
from automixer_assets.lake import file_sha256

INTERNAL = ".export"
REPORT = "export.json"
BLOCK = 2**20


@dataclass(frozen=True)
class Segment:
    """Bytes of a file that one part wrote: all of it, or what it appended."""

    path: str
    start: int
    end: int
    sha256: str


@dataclass(frozen=True)
class FinishedPart:
    """A line of the journal. `mixture_tokens`: tokens of the part's documents as the mixture counts them."""

    part: str
    mixture_tokens: int
    counts: Counts
    segments: tuple[Segment, ...]

    def line(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode() + b"\n"

    @classmethod
    def of_line(cls, line: str) -> FinishedPart:
        document = json.loads(line)
        segments = tuple(Segment(**each) for each in document["segments"])
        return cls(document["part"], document["mixture_tokens"], Counts(**document["counts"]), segments)


class ExportFolder:
    """Use within `held()`: two exports into one folder would write over each other."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.out, self.internal = out, out / INTERNAL
        self._identity = identity
        self._ends: dict[str, int] = {}  # of joined files, by path
        self.finished: dict[str, FinishedPart] = {}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Claim the folder, new or begun by the same export; raises AutomixerError where it is anything else."""
        self._claim()
        descriptor = os.open(self.internal, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._resume()
            yield
        except BlockingIOError:
            raise AutomixerError(
                f"{self.out} is being written by another process: wait for that export, or choose another --out"
            ) from None
        finally:
            os.close(descriptor)

    def write_part(
        self,
        part: str,
        mixture_tokens: int,
        write: Callable[[Path], Counts],
        place: Callable[[str], tuple[str, bool]],
    ) -> None:
        """Let `write(folder)` fill an empty folder, put its files to their places, and journal them.

        `place(name)` says where a file goes, and whether it is appended there.
        """
        working = self.internal / "working"
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        counts = write(working)
        segments = tuple(self._put(path, *place(path.relative_to(working).as_posix())) for path in files_below(working))
        shutil.rmtree(working)
        entry = FinishedPart(part, mixture_tokens, counts, segments)
        with (self.internal / "journal.jsonl").open("ab") as journal:
            journal.write(entry.line())
            journal.flush()
            os.fsync(journal.fileno())
        self._record(entry)

    def verify(self) -> dict[str, str]:
        """sha256 of every file by path, after comparing what the parts wrote with the journal."""
        by_path: dict[str, list[Segment]] = {}
        for entry in self.finished.values():
            for segment in entry.segments:
                by_path.setdefault(segment.path, []).append(segment)
        digests = {path: _verified(self._resolve(path), segments) for path, segments in by_path.items()}
        others = [path for path in files_below(self.out) if not self._passing(path)]
        names = [path.relative_to(self.out).as_posix() for path in others]
        return {name: digests.get(name) or file_sha256(self.out / name) for name in names}

    def complete(self, report: dict[str, Any]) -> None:
        """Flush everything, write `export.json`, and remove what only a resume needs."""
        sync_tree(self.out)
        content = json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n"
        write_atomically(self.out / REPORT, content)
        shutil.rmtree(self.internal)

    def _claim(self) -> None:
        begun = self.internal / "identity.json"
        if begun.exists():
            _require_same(json.loads(begun.read_text()), self._identity, self.out)
            return
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise AutomixerError(
                f"{self.out} is not empty and holds no export that could go on: choose another --out or empty it"
            )
        self.internal.mkdir(parents=True)
        write_atomically(begun, json.dumps(self._identity, indent=1).encode() + b"\n")

    def _resume(self) -> None:
        journal = self.internal / "journal.jsonl"
        if not journal.exists():
            return
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]  # a line that was cut short names a part that is written again
        os.truncate(journal, len(whole))
        for line in whole.decode().splitlines():
            self._record(FinishedPart.of_line(line))
        for path, end in self._ends.items():
            if self._resolve(path).stat().st_size > end:
                os.truncate(self._resolve(path), end)

    def _record(self, entry: FinishedPart) -> None:
        self.finished[entry.part] = entry
        for segment in entry.segments:
            file = self._resolve(segment.path)
            if not file.exists() or file.stat().st_size < segment.end:
                raise _damaged(file)
            self._ends[segment.path] = segment.end

    def _put(self, path: Path, destination: str, append: bool) -> Segment:
        target = self._resolve(destination)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not append:
            segment = Segment(destination, 0, path.stat().st_size, file_sha256(path))
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.replace(target)
            sync_folder(target.parent)
            return segment
        start = self._ends.get(destination, 0)
        digest = hashlib.sha256()
        with path.open("rb") as source, target.open("r+b" if target.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            while block := source.read(BLOCK):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            end = file.tell()
        return Segment(destination, start, end, digest.hexdigest())

    def _resolve(self, path: str) -> Path:
        """Joined files whose name begins with `_` are only for `finish`."""
        return self.internal / path if path.startswith("_") else self.out / path

    def _passing(self, path: Path) -> bool:
        return path == self.out / REPORT or path.is_relative_to(self.internal)


def finished_report(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a complete export in `out`, its files compared with their digests; None where there is none.

    Raises:
        AutomixerError: it is another export's, or a file is missing or differs.
    """
    path = out / REPORT
    if not path.exists() or (out / INTERNAL).exists():
        return None
    report = json.loads(path.read_text())
    _require_same(report.get("identity", {}), identity, out)
    for name, sha256 in report["files"].items():
        file = out / name
        if not file.exists() or file_sha256(file) != sha256:
            raise _damaged(file)
    return report


def _require_same(begun: dict[str, Any], wanted: dict[str, Any], out: Path) -> None:
    differing = sorted(key for key in {**begun, **wanted} if begun.get(key) != wanted.get(key))
    if differing:
        key = differing[0]
        raise AutomixerError(
            f"{out} holds another export ({key} {begun.get(key)!r}, not {wanted.get(key)!r}): choose another --out"
        )


def _verified(path: Path, segments: list[Segment]) -> str:
    """sha256 of the whole file, whose segments are compared with their digests on the way."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for segment in segments:
            digest, left = hashlib.sha256(), segment.end - segment.start
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                whole.update(block)
                digest.update(block)
            if left or digest.hexdigest() != segment.sha256:
                raise _damaged(path)
        if file.read(1):
            raise _damaged(path)
    return whole.hexdigest()


def _damaged(path: Path) -> AutomixerError:
    return AutomixerError(f"{path} is missing or no longer what the export wrote: delete the folder and export again")
