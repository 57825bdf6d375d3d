"""Export a mixture: part by part into the trainer's files, then indexes, configuration and the hand-over sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets import __version__
from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.export.folder import ExportFolder, finished_report
from automixer_assets.export.format import Counts, ExportGroup, ExportPlan, Format, TokenEncoding
from automixer_assets.export.handover import write_handover
from automixer_assets.export.labels import group_labels
from automixer_assets.export.packing import CARRIED
from automixer_assets.export.registry import load_format
from automixer_assets.export.retokenizing import Retokenizer, tokenizer_folder
from automixer_assets.export.source import ExportPart, group_parts
from automixer_assets.export.weights import (
    group_tokens,
    in_unit,
    run_length,
    run_shares,
    shares_over_time,
    without_empty,
)
from automixer_assets.lake import disk_full_is_said
from automixer_assets.mixture.manifest import Manifest, ManifestGroup
from automixer_assets.mixture.selected import require_tokenizer

SEQUENCE_LENGTH, BATCH_SIZE = 2048, 256
OnProgress = Callable[[int, bool], None]
"""Called with documents, and whether an earlier run had exported them."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported, as `export.json` says it. `reused`: it was complete before, and its digests were compared."""

    out: Path
    document: dict[str, Any]
    reused: bool


@dataclass(frozen=True)
class _Job:
    """What every step needs."""

    manifest: Manifest
    lake_root: Path
    snapshots: Mapping[str, TokenizedSnapshot]
    format: Format
    out: Path
    corpus: Path | None
    retokenizer: Retokenizer | None
    encoding: TokenEncoding
    location: Path
    sequence_length: int
    batch_size: int

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "mixture": self.manifest.reference,
            "format": self.format.name,
            "format_version": self.format.version,
            "tokenizer": self.encoding.tokenizer_digest,
            "location": self.location.as_posix(),
            "sequence_length": self.sequence_length,
            "batch_size": self.batch_size,
        }


def export_mixture(
    manifest: Manifest,
    lake_root: Path,
    snapshots: Mapping[str, TokenizedSnapshot],
    format: str,
    out: Path,
    *,
    corpus: Path | None = None,
    tokenizer: Path | None = None,
    location: Path | None = None,
    sequence_length: int = SEQUENCE_LENGTH,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress = lambda documents, earlier: None,
) -> ExportReport:
    """Write the mixture's selected documents for a trainer; a killed export goes on where it stopped.

    Args:
        manifest: the mixture.
        lake_root: where the manifest's selection files lie.
        snapshots: snapshot -> its tokenised folder, of the tokenizer that the manifest counts with.
        format: a name in FORMATS.
        out: the folder to fill; new, empty, or begun by the same export.
        corpus: the folder of crawl snapshots; needed for texts, which is to say by formats that read text and with
            `tokenizer`.
        tokenizer: the trainer's tokenizer (a folder or its tokenizer.json) where it is not the mixture's: documents
            are tokenised with it anew, counted and weighted by its tokens.
        location: where the trainer will find the files; by default where they are written.
        sequence_length: tokens per training sequence, for formats and command lines that name it.
        batch_size: sequences per training step, for the same.
        on_progress: see OnProgress.

    Raises:
        AutomixerError: the folder is something else's, inputs are missing or differ from what the manifest pins, the
            trainer cannot honour the manifest's exhaustion policy, or the disk is full.
    """
    require_tokenizer(manifest, snapshots)
    chosen = load_format(format)
    retokenizer = None if tokenizer is None else Retokenizer(tokenizer_folder(tokenizer))
    if corpus is None and (retokenizer is not None or chosen.reads == "text"):
        raise ConfigurationError(f"exporting to {format} needs the texts: say where the crawl snapshots lie (corpus)")
    job = _Job(
        manifest=manifest,
        lake_root=lake_root,
        snapshots=snapshots,
        format=chosen,
        out=out,
        corpus=corpus,
        retokenizer=retokenizer,
        encoding=_encoding(manifest, snapshots, retokenizer),
        location=(location or out).absolute(),
        sequence_length=sequence_length,
        batch_size=batch_size,
    )
    if (report := finished_report(out, job.identity)) is not None:
        return ExportReport(out, report, reused=True)
    folder = ExportFolder(out, job.identity)
    remedy = "free some, then run the same command again: it goes on where it stopped"
    with disk_full_is_said(out, remedy), folder.held():
        job.format.exhaustion(_plan(job, folder, _listed(manifest)))  # a refusal comes before the work
        counts = _write_parts(job, folder, on_progress)
        document = _finish(job, folder, counts)
    return ExportReport(out, document, reused=False)


def n_documents(manifest: Manifest) -> int:
    """Documents of groups with a positive weight, a document once for each group: what progress adds up to."""
    shares = run_shares(manifest)
    return sum(group.read_documents for group in manifest.groups if group.name in shares)


def _listed(manifest: Manifest) -> dict[str, Counts]:
    """Documents and tokens of groups of positive weight as the manifest lists them."""
    groups = {group.name: group for group in manifest.groups}
    return {name: Counts(groups[name].read_documents, groups[name].read_tokens) for name in run_shares(manifest)}


def _encoding(
    manifest: Manifest, snapshots: Mapping[str, TokenizedSnapshot], retokenizer: Retokenizer | None
) -> TokenEncoding:
    if retokenizer is not None:
        return TokenEncoding(retokenizer.dtype, retokenizer.vocab_size, retokenizer.end_of_document, retokenizer.digest)
    snapshot = snapshots[min(snapshots)]
    return TokenEncoding(snapshot.dtype, snapshot.vocab_size, snapshot.end_of_document, manifest.tokenizer_digest)


def _write_parts(job: _Job, folder: ExportFolder, on_progress: OnProgress) -> dict[str, Counts]:
    """Write every part that is not finished; documents and tokens by group of positive weight."""
    shares = run_shares(job.manifest)
    labels = group_labels(list(shares), job.format)
    groups = [group for group in job.manifest.groups if group.name in shares]
    return {group.name: _write_group(job, folder, group, labels[group.name], on_progress) for group in groups}


def _write_group(job: _Job, folder: ExportFolder, group: ManifestGroup, label: str, on_progress: OnProgress) -> Counts:
    keys = {f"{group.name}/{shard.snapshot}/{shard.shard}": shard for shard in group.shards}
    missing = [key for key in keys if key not in folder.finished]
    for key in keys:
        if key in folder.finished:
            on_progress(folder.finished[key].counts.documents, True)
    before = [None, *keys][len(keys) - len(missing)]  # parts are finished in order
    for key, part in zip(missing, _parts(job, group, label, [keys[key] for key in missing]), strict=True):
        _write_part(job, folder, key, replace(part, carried=_carried(job, folder, before)))
        on_progress(folder.finished[key].counts.documents, False)
        before = key
    return sum((folder.finished[key].counts for key in keys), Counts(0, 0))


def _parts(job: _Job, group: ManifestGroup, label: str, shards: list[Any]) -> Iterator[ExportPart]:
    return group_parts(
        group,
        shards,
        job.lake_root,
        job.snapshots,
        label=label,
        dtype=job.encoding.dtype,
        corpus=job.corpus,
        retokenizer=job.retokenizer,
        sequence_length=job.sequence_length,
    )


def _write_part(job: _Job, folder: ExportFolder, key: str, part: ExportPart) -> None:
    def write(working: Path) -> Counts:
        return job.format.write_part(part, working) if part.documents.height or job.format.packs else Counts(0, 0)

    def place(name: str) -> tuple[str, bool]:
        if name == CARRIED:
            return f"{CARRIED}/{key}", False
        joined = job.format.joined_path(part, name)
        return (joined, True) if joined is not None else (job.format.part_path(part, name), False)

    folder.write_part(key, int(part.documents["n_tokens"].sum()), write, place)


def _carried(job: _Job, folder: ExportFolder, key: str | None) -> np.ndarray:
    """What the part of that key left over for the next one, where the format packs."""
    if key is None or not job.format.packs:
        return np.empty(0, job.encoding.dtype)
    return np.fromfile(folder.internal / CARRIED / key, job.encoding.dtype)


def _finish(job: _Job, folder: ExportFolder, counts: Mapping[str, Counts]) -> dict[str, Any]:
    plan = _plan(job, folder, counts)
    exhaustion = job.format.exhaustion(plan)
    job.format.finish(plan, job.out, folder.internal)
    write_handover(plan, job.format, exhaustion, job.out)
    document = {
        "schema_version": 1,
        "identity": job.identity,
        "created_by": __version__,
        "token_ids": {"dtype": plan.encoding.dtype, "vocab_size": plan.encoding.vocab_size},
        "end_of_document": plan.encoding.end_of_document,
        "unit_of_weights": job.format.unit,
        "exhaustion": exhaustion,
        "run_tokens": plan.run_tokens,
        "groups": [_group_json(group) for group in plan.groups],
        "notes": list(plan.notes),
        "files": folder.verify(),
    }
    folder.complete(document)
    return document


def _group_json(group: ExportGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "label": group.label,
        "share_of_tokens": group.share,
        "weight": group.weight,
        "documents": group.documents,
        "tokens": group.tokens,
        "left_over_tokens": group.left_over,
        "run_tokens": group.run_tokens,
        "passes": group.passes,
    }


def _plan(job: _Job, folder: ExportFolder, counts: Mapping[str, Counts]) -> ExportPlan:
    manifest = job.manifest
    if job.format.packs and not any(each.tokens for each in counts.values()):
        raise AutomixerError(
            f"no group of the mixture fills a sequence of {job.sequence_length:,} tokens: "
            "choose a smaller --sequence-length"
        )
    shares = without_empty(run_shares(manifest), counts)
    labels = group_labels(list(counts), job.format)
    run_tokens = run_length(manifest, shares, _token_ratios(job, folder, shares))
    taken = group_tokens(shares, run_tokens)
    weights = in_unit(shares, counts, job.format.unit)
    groups = tuple(
        ExportGroup(
            name, labels[name], share, weights[name], counts[name].documents, counts[name].tokens, taken[name],
            counts[name].left_over, _files(manifest, folder, name),
        )
        for name, share in shares.items()
    )  # fmt: skip
    return ExportPlan(
        manifest=manifest,
        groups=groups,
        encoding=job.encoding,
        run_tokens=run_tokens,
        phases=shares_over_time(manifest, shares),
        location=job.location,
        retokenized=job.retokenizer is not None,
        sequence_length=job.sequence_length,
        batch_size=job.batch_size,
        notes=tuple(_notes(job, labels, counts)),
    )


def _token_ratios(job: _Job, folder: ExportFolder, names: Iterable[str]) -> dict[str, float]:
    """The trainer's tokens per token of the mixture, by group: what was tokenised anew or fills no sequence counts.

    1 for a group of which nothing is written yet.
    """
    of_group = {name: [part for key, part in folder.finished.items() if key.split("/")[0] == name] for name in names}
    written = {name: sum(part.counts.tokens for part in parts) for name, parts in of_group.items()}
    taken = {name: sum(part.mixture_tokens for part in parts) for name, parts in of_group.items()}
    return {name: written[name] / taken[name] if written[name] else 1.0 for name in of_group}


def _files(manifest: Manifest, folder: ExportFolder, name: str) -> tuple[str, ...]:
    group = next(group for group in manifest.groups if group.name == name)
    keys = [f"{name}/{shard.snapshot}/{shard.shard}" for shard in group.shards]
    paths = [segment.path for key in keys if key in folder.finished for segment in folder.finished[key].segments]
    return tuple(dict.fromkeys(path for path in paths if not path.startswith("_")))


def _notes(job: _Job, labels: Mapping[str, str], counts: Mapping[str, Counts]) -> Iterator[str]:
    """What a reader would not expect."""
    least = f"no sequence of {job.sequence_length:,} tokens" if job.format.packs else "no token"
    for group in job.manifest.groups:
        if group.name not in labels:
            yield f"group {group.name} has weight 0 and is left out"
        elif not counts[group.name].tokens:
            yield f"group {group.name} has {least} and is left out; the others' shares rise in proportion"
        elif labels[group.name] != group.name:
            yield f"group {group.name} is called {labels[group.name]} here: {job.format.title} does not take its name"
        if group.name in counts and counts[group.name].left_over:
            yield f"the last {counts[group.name].left_over:,} tokens of {group.name} fill no sequence and are left out"
    width = {"<u2": 16, "<u4": 32}[job.encoding.dtype]
    if job.format.reads == "tokens":
        yield f"ids are written with {width} bits: the vocabulary has {job.encoding.vocab_size:,}"
    if job.retokenizer is not None:
        yield "tokens are those of the given tokenizer, not the mixture's: counted anew, token shares kept"
