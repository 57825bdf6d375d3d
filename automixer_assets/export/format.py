"""What a format has to say about itself, and what it is given to write.

A format writes a part (the documents that one group takes from one shard) at a time into an empty folder; the
framework moves the files to where the format wants them, records their digests and resumes after a kill. When all
parts are there, `finish` writes what needs the totals: indexes, blends, configurations.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from automixer_assets.export.source import ExportPart
from automixer_assets.mixture.manifest import Manifest, ManifestPhase

Unit = Literal["tokens", "documents", "sequences"]
"""What one draw by a weight takes: a token, a document, or a sequence of fixed length (as good as tokens)."""


@dataclass(frozen=True)
class Counts:
    """What was written: documents, and tokens in ids of the trainer's tokenizer, end-of-document ids included.

    `left_over`: tokens at the end that fill no sequence and are not written, where the format packs.
    """

    documents: int
    tokens: int
    left_over: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Counts of a part and the part after it, which goes on with what was left over."""
        return Counts(self.documents + other.documents, self.tokens + other.tokens, other.left_over)


@dataclass(frozen=True)
class TokenEncoding:
    """How ids are written, and what they mean. `tokenizer_digest`: sha256 of tokenizer.json."""

    dtype: str
    vocab_size: int
    end_of_document: int
    tokenizer_digest: str


@dataclass(frozen=True)
class ExportGroup:
    """A group of the mixture as the trainer sees it."""

    name: str
    label: str
    """The name that the trainer is given; differs from `name` where the trainer does not accept that."""
    share: float
    """Share of the run's tokens."""
    weight: float
    """`share` restated in the format's unit; weights sum to 1."""
    documents: int
    tokens: int
    run_tokens: int
    """Tokens that the run takes from the group."""
    left_over: int
    """Tokens at the group's end that fill no sequence and are not written, where the format packs."""
    files: tuple[str, ...]
    """Paths below the export's folder, in order."""

    @property
    def passes(self) -> float:
        """How often the run reads the group's documents on average."""
        return self.run_tokens / self.tokens

    @property
    def mean_tokens(self) -> float:
        return self.tokens / self.documents


@dataclass(frozen=True)
class ExportPlan:
    """Everything that `finish` and the hand-over sheet need."""

    manifest: Manifest
    groups: tuple[ExportGroup, ...]
    """Those with a positive weight and with tokens."""
    encoding: TokenEncoding
    run_tokens: int
    """Tokens of the whole run."""
    phases: tuple[ManifestPhase, ...]
    """Shares over time by group name, groups that are left out excepted; one phase where shares never change."""
    location: Path
    """Where the trainer will find the export's folder."""
    retokenized: bool
    sequence_length: int
    batch_size: int
    """Sequences per training step."""
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Whole training steps of the run, at least one."""
        return max(1, self.run_tokens // (self.sequence_length * self.batch_size))

    @property
    def capped(self) -> bool:
        """Whether groups stop at a cap."""
        return self.manifest.exhaustion_policy == "stop_and_raise_others"

    @property
    def repeated(self) -> str:
        """The groups that the run reads more than once, in words."""
        names = [group.label for group in self.groups if group.passes > 1]
        return f"this run repeats {', '.join(names)}" if names else "this run repeats no group"

    def files(self, group: ExportGroup) -> list[str]:
        """A group's files where the trainer will find them."""
        return [str(self.location / path) for path in group.files]


class Format(ABC):
    """One trainer's files. Class attributes say what the framework needs to know."""

    name: str
    title: str
    """The trainers that read it."""
    version: int = 1
    """Raised when the bytes that it writes change: an export that was begun by another version is not resumed."""
    reads: Literal["tokens", "text"]
    unit: Unit
    packs: bool = False
    """Whether documents are cut into sequences of one length; a part then goes on where the one before it ended."""
    label_pattern: re.Pattern[str] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
    """Group names that the trainer accepts; others are renamed."""
    label_repair: re.Pattern[str] = re.compile(r"[^A-Za-z0-9._-]")
    """Characters that become `-` in a renamed group's label."""

    @abstractmethod
    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        """Write one part's files into the empty `folder`: the same part always gives the same bytes."""

    @abstractmethod
    def part_path(self, part: ExportPart, name: str) -> str:
        """Where file `name` of a part goes, below the export's folder."""

    def joined_path(self, part: ExportPart, name: str) -> str | None:
        """For a file that parts share, each appending to it: where it goes. A leading `_` keeps it internal."""
        return None

    @abstractmethod
    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        """Write what needs the totals into `out`. Joined files kept internal lie in `internal`."""

    @abstractmethod
    def exhaustion(self, plan: ExportPlan) -> str:
        """What really happens when a group runs out, in a sentence; raises AutomixerError where the manifest's policy
        cannot be honoured."""

    @abstractmethod
    def start(self, plan: ExportPlan) -> str:
        """Markdown for the hand-over sheet: the trainer's own command line or code to start from."""


def caps_note(plan: ExportPlan) -> str:
    """What weights that never change mean for caps; empty where the mixture has none. Begins with a space."""
    if not plan.capped:
        return ""
    return (
        " The weights are shares over the whole run, so at its end every group has given what the mixture allots and "
        "none has passed its cap; a longer run would."
    )
