"""Why is a document in a mixture, or not? Its text, its scores among all others, its groups, how often it is read.

Only pinned files are read: ids and hashes of the mixture's snapshots to find the document, one score column at a time
to place it among the others, single rows for everything else.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.samples import is_sampled
from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import ConfigurationError
from automixer_assets.mixture.groups import utility_column
from automixer_assets.mixture.manifest import ManifestGroup
from automixer_assets.mixture.score_columns import influence_column

SOURCE_COLUMNS = ("url", "dump", "date", "file_path", "licence", "language", "language_score", "score", "int_score")
EXCERPT_CHARACTERS = 600
NEAR_MATCHES = 5
PREFIX = 8

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Place:
    """Where a document lies in the tokenised corpus."""

    snapshot: str
    shard: str
    row: int
    doc_id: str


@dataclass(frozen=True)
class TaskScore:
    """What the document does for one task at one checkpoint. `percentile`: documents of its snapshot that it beats."""

    task: str
    utility: float
    percentile: float


@dataclass(frozen=True)
class GroupAnswer:
    """How the document fares with one group.

    Attributes:
        utility: what the group ranks by: mean over its tasks, normalised if the recipe says so.
        percentile, snapshot_percentile: percent of the mixture's (its snapshot's) documents with a lower utility.
        margin: utility - threshold; at or above 0 the group would keep it.
        kept: whether its selection file holds it.
        utility: None where the document is no candidate of the group, as percentiles and margin then are.
        times_read: how often the group reads this document; 0 if it does not keep it, or its sample leaves it out.
    """

    group: str
    checkpoint: str | None
    tasks: tuple[TaskScore, ...]
    utility: float | None
    percentile: float | None
    snapshot_percentile: float | None
    threshold: float
    margin: float | None
    kept: bool
    times_read: float


@dataclass(frozen=True)
class Explanation:
    """All about one document of a mixture.

    Attributes:
        text: decoded from its tokens; the beginning, unless all of it was asked for.
        flags: why it takes no part, in words; empty if it does.
        leaked: what is known of benchmark items in it; None where the mixture does not look.
        times_read: expected, over all groups and over the copies of its text.
        share_of_run: tokens read of it (and its copies) over the run's tokens.
        copies: other documents with the same text.
    """

    mixture: str
    place: Place
    text: str
    n_characters: int
    n_tokens: int
    content_hash: str
    source: dict[str, Any]
    joint_utility: float
    joint_percentile: float
    groups: tuple[GroupAnswer, ...]
    flags: tuple[str, ...]
    leaked: str | None
    times_read: float
    share_of_run: float
    copies: tuple[Place, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(inputs: PinnedInputs, doc_id: str, decode: Decode, *, full: bool = False) -> list[Explanation]:
    """A document of the mixture, once per snapshot that has it.

    Raises:
        ConfigurationError: no pinned snapshot has the id; says where it was rejected, or which ids are near.
        AutomixerError: a pinned input is gone.
    """
    places = list(find_documents(inputs, pl.col("doc_id") == doc_id))
    if not places:
        raise ConfigurationError(_unknown(inputs, doc_id))
    return [_explain(inputs, place, decode, full=full) for place in places]


def find_documents(inputs: PinnedInputs, condition: pl.Expr) -> Iterator[Place]:
    """Documents of the mixture's snapshots that meet a condition on doc_id or content_hash."""
    for snapshot in inputs.snapshots:
        for shard in inputs.corpus(snapshot).shards:
            documents = pl.scan_parquet(shard.documents_path, row_index_name="place")
            found = documents.filter(condition).select("place", "doc_id").collect()
            yield from (Place(snapshot, shard.name, row, each) for row, each in found.iter_rows())


def _explain(inputs: PinnedInputs, place: Place, decode: Decode, *, full: bool) -> Explanation:
    shard = next(each for each in inputs.corpus(place.snapshot).shards if each.name == place.shard)
    document = _row(shard.documents_path, place.row)
    text = decode(_token_ids(shard, document))
    joint = _row(inputs.joint(place.snapshot) / f"{place.shard}.parquet", place.row)
    groups = tuple(_group(inputs, place, group, joint) for group in inputs.manifest.groups)
    hashes = pl.col("content_hash") == document["content_hash"]
    copies = tuple(each for each in find_documents(inputs, hashes) if each != place)
    read = _times_read(inputs, [place, *copies])
    return Explanation(
        mixture=inputs.manifest.reference,
        place=place,
        text=text if full else text[:EXCERPT_CHARACTERS],
        n_characters=len(text),
        n_tokens=document["n_tokens"],
        content_hash=document["content_hash"],
        source={name: document[name] for name in SOURCE_COLUMNS if document.get(name) is not None},
        joint_utility=joint["joint_utility"],
        joint_percentile=_percentile(_joint_files(inputs), "joint_utility", joint["joint_utility"]),
        groups=groups,
        flags=tuple(_exclusions(inputs, place)),
        leaked=_leaked(inputs, place),
        times_read=read,
        share_of_run=read * document["n_tokens"] / (inputs.manifest.token_budget - inputs.manifest.shortfall or 1),
        copies=copies,
    )


def _row(path: Path, row: int) -> dict[str, Any]:
    return pl.scan_parquet(path).slice(row, 1).collect().row(0, named=True)


def _token_ids(shard: TokenShard, document: dict[str, Any]) -> list[int]:
    """Without the end-of-document id."""
    begin = document["offset"]
    return shard.tokens[begin : begin + document["n_tokens"] - 1].tolist()


def _group(inputs: PinnedInputs, place: Place, group: ManifestGroup, joint: dict[str, Any]) -> GroupAnswer:
    column = utility_column(group.name)
    utility = joint[column]
    here = [inputs.joint(place.snapshot) / "shard-*.parquet"]
    selection = inputs.grouped / "groups" / group.name / place.snapshot / f"{place.shard}.parquet"
    return GroupAnswer(
        group=group.name,
        checkpoint=group.checkpoint,
        tasks=_tasks(inputs, place, group.name),
        utility=utility,
        percentile=None if utility is None else _percentile(_joint_files(inputs), column, utility),
        snapshot_percentile=None if utility is None else _percentile(here, column, utility),
        threshold=group.threshold,
        margin=None if utility is None else utility - group.threshold,
        kept=_holds(selection, place.row),
        times_read=_read_by(inputs, place, group),
    )


def _holds(selection: Path, row: int) -> bool:
    """Rows ascend, so the statistics of row groups leave one of them to read."""
    return not pl.scan_parquet(selection).filter(pl.col("row") == row).select("row").collect().is_empty()


def _tasks(inputs: PinnedInputs, place: Place, group: str) -> tuple[TaskScore, ...]:
    """Utilities at the group's checkpoint, task by task, all percentiles in one pass; none where nothing was scored."""
    columns = inputs.score_columns.get(group, [])
    if not columns:
        return ()
    folder = inputs.influence(group, place.snapshot)
    own = _row(folder / f"{place.shard}.parquet", place.row)
    # Utility is minus influence: what has more influence is beaten.
    counts = pl.scan_parquet(folder / "shard-*.parquet").select(
        pl.len().alias("n"), *((pl.col(name) > own[name]).sum().alias(name) for name in columns)
    )
    beaten = counts.collect(engine="streaming").row(0, named=True)
    prefix = influence_column(inputs.recipe.curvature, inputs.recipe.query, "")
    return tuple(
        TaskScore(name.removeprefix(prefix), 0 - own[name], 100 * beaten[name] / beaten["n"]) for name in columns
    )


def _joint_files(inputs: PinnedInputs) -> list[Path]:
    return [inputs.joint(snapshot) / "shard-*.parquet" for snapshot in inputs.snapshots]


def _percentile(files: Sequence[Path], column: str, value: float) -> float:
    """Percent of the documents of these files with a lower value, of those that have one."""
    counts = (pl.col(column) < value).sum().alias("below"), pl.col(column).count().alias("n")
    below = pl.scan_parquet(list(map(str, files))).select(counts)
    n_below, n = below.collect(engine="streaming").row(0)
    return 100 * n_below / n


def _exclusions(inputs: PinnedInputs, place: Place) -> Iterator[str]:
    exclusions = inputs.exclusions
    if place.snapshot in exclusions.removed:
        removed = pl.read_parquet(exclusions.removed[place.snapshot] / "removed.parquet")
        own = removed.filter((pl.col("shard") == place.shard) & (pl.col("row") == place.row))
        for kind, entry in own.select("kind", "entry").iter_rows():
            yield f"removed: the removal list names its {kind.replace('_', ' ')} {entry}"
    if place.snapshot in exclusions.leakage:
        flags = _row(exclusions.leakage[place.snapshot] / f"{place.shard}.parquet", place.row)
        if flags["n_ngrams"]:
            yield f"leaked: it repeats {flags['task']} ({flags['item_set']} items): “{flags['shared_words']}”"
    own = exclusions.of(place.snapshot, place.shard).filter(pl.col("row") == place.row)
    told = {"filtered": "filtered: its words score below the mixture's filter", "copy": "copy: an earlier text is it"}
    yield from (told[reason] for reason in own["reason"] if reason in told)


def _leaked(inputs: PinnedInputs, place: Place) -> str | None:
    if place.snapshot not in inputs.exclusions.leakage:
        return None
    flags = _row(inputs.exclusions.leakage[place.snapshot] / f"{place.shard}.parquet", place.row)
    return f"{flags['n_ngrams']} word sequences shared with {flags['n_items']} scored items"


def _times_read(inputs: PinnedInputs, places: Sequence[Place]) -> float:
    """Expected readings of a text, its copies taken together."""
    return sum(_read_by(inputs, place, group) for place in places for group in inputs.manifest.groups)


def _read_by(inputs: PinnedInputs, place: Place, group: ManifestGroup) -> float:
    selection = inputs.grouped / "groups" / group.name / place.snapshot / f"{place.shard}.parquet"
    own = pl.scan_parquet(selection).filter(pl.col("row") == place.row).collect()
    return group.passes * float(is_sampled(own, group).sum())


def _unknown(inputs: PinnedInputs, doc_id: str) -> str:
    """Where the id was rejected, or which ids look like it."""
    where = f"no document {doc_id!r} in {', '.join(inputs.snapshots)}, the snapshots of {inputs.manifest.mixture}"
    for snapshot in inputs.snapshots:
        path = inputs.folder("snapshot_inventory", snapshot) / "quarantine.parquet"
        rejected = pl.read_parquet(path).filter(pl.col("doc_id") == doc_id)
        for file, row, _, reason in rejected.head(1).iter_rows():
            return f"{where}: it was rejected when {snapshot} was read ({file}, row {row}: {reason})"
    near = _near(inputs, doc_id)
    return f"{where}; near it: {', '.join(near)}" if near else f"{where}; no id looks like it"


def _near(inputs: PinnedInputs, doc_id: str) -> list[str]:
    """Ids that contain it or begin or end like it, the most similar first."""
    alike = (
        pl.col("doc_id").str.contains(doc_id, literal=True)
        | pl.col("doc_id").str.starts_with(doc_id[:-PREFIX] or doc_id)
        | pl.col("doc_id").str.ends_with(doc_id[PREFIX:] or doc_id)
    )
    found = sorted({place.doc_id for place in find_documents(inputs, alike)})[:1000]
    return difflib.get_close_matches(doc_id, found, n=NEAR_MATCHES, cutoff=0.0)
