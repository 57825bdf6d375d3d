"""The first seam: a Scorer gives row-aligned utility columns for a shard, one per group.

A strategy is a module of this package with a `STRATEGY`: its options, what it reads, and how it makes a Scorer of that.
`write_scored_shard` is what turns any of them into a joint_influence shard. No strategy is named anywhere else.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import blend, read_documents, require_aligned
from automixer_assets.mixture.normalisation import Normalisation
from automixer_assets.mixture.parquet import write_table
from automixer_assets.settings.base import Section

if TYPE_CHECKING:
    from automixer_assets.settings import Recipe


class Scorer(Protocol):
    """Higher utility is better; a document's utility depends on the document and frozen constants alone."""

    @property
    def groups(self) -> tuple[GroupOrigin, ...]:
        """The groups it ranks documents for, in column order; their alphas blend the joint utility."""
        ...

    @property
    def constants(self) -> dict[str, Normalisation]:
        """Group -> how its utilities are scaled; empty where they are as they were scored."""
        ...

    def utilities(self, shard: TokenShard) -> pa.Table:
        """`doc_id, n_tokens, utility__GROUP ...`, a row per document of the shard, in its order."""
        ...


class Inputs(Protocol):
    """What a scorer of one snapshot may read. Asking for something makes it part of what the scores depend on."""

    @property
    def recipe(self) -> Recipe:
        """The recipe's settings."""
        ...

    @property
    def snapshot(self) -> str: ...

    def checkpoints(self) -> tuple[GroupOrigin, ...]:
        """The recipe's selected checkpoints, by step."""
        ...

    def columns(self, checkpoint: GroupOrigin) -> list[str]:
        """The influence columns whose mean is the checkpoint's score."""
        ...

    def influence(self, checkpoint: GroupOrigin) -> Path:
        """Folder of the snapshot's checkpoint_influence there."""
        ...

    def reference_influence(self, checkpoint: GroupOrigin) -> Path:
        """The scores of the reference sample there, one file."""
        ...

    def lexical(self) -> Path:
        """Folder of the snapshot's lexical_scores."""
        ...

    def reference_lexical(self) -> Path:
        """The lexical scores of the reference sample, one file."""
        ...

    def file(self, path: str) -> Path:
        """A file that the settings name; its content counts."""
        ...


@dataclass(frozen=True)
class Strategy:
    """How utilities come about.

    Attributes:
        scorer: makes the scorer of a snapshot; it may ask `Inputs` for things, but must do no work yet.
        origins: the groups, for strategies without checkpoints; None where the selected checkpoints are the groups.
        options: model of the recipe's `options`.
        linear_in_items: whether a utility is a mean over validation items, so that items can be resampled.
        lexical: whether it reads lexical scores.
        files: the files that its options name; their content is part of what the scores depend on.
    """

    scorer: Callable[[Inputs], Scorer]
    origins: Callable[[Mapping[str, Any]], tuple[GroupOrigin, ...]] | None = None
    options: type[Section] = Section
    linear_in_items: bool = False
    lexical: bool = False
    files: Callable[[Mapping[str, Any]], list[str]] = lambda options: []

    @property
    def uses_checkpoints(self) -> bool:
        return self.origins is None


def strategy_names() -> list[str]:
    """Every strategy there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def strategy_named(name: str) -> Strategy:
    """Raises AutomixerError for an unknown name."""
    if name not in strategy_names():
        raise AutomixerError(f"there is no scorer {name!r}; there are {', '.join(strategy_names())}")
    return import_module(f"{__name__}.{name}").STRATEGY


def write_scored_shard(scorer: Scorer, shard: TokenShard, out: Path) -> None:
    """Score a shard, verify that the rows are the shard's, blend, and write the joint_influence file."""
    utilities = scorer.utilities(shard)
    require_aligned(utilities, out, read_documents(shard.documents_path), shard.documents_path)
    write_table(blend(utilities, {group.name: group.alpha for group in scorer.groups}), out)
