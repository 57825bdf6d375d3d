"""Importing checkpoints that others trained: which can be used, at which steps, and why not the others.

A checkpoint that cannot be used is quarantined with a sentence, neither fatal nor silent. Weights are not copied: the
run's tables say which files were read and what their sha256 was (`imported_run.py` reads them again).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import digest_of
from automixer_assets.proxy.imported_inspection import Inspection, Inspector, tokenizer_files
from automixer_assets.proxy.imported_stores import CheckpointStore
from automixer_assets.settings import CheckpointSource, StepName

USABLE, QUARANTINED, MISSING = "usable", "quarantined", "missing"
SHOWN_NAMES = 5
CHECKPOINTS_SCHEMA = {
    "step": pl.Int64,
    "name": pl.String,
    "revision": pl.String,
    "tokens": pl.Int64,
    "status": pl.String,
    "reason": pl.String,
    "bytes": pl.Int64,
    "sha256": pl.String,
}
FILES_SCHEMA = {"name": pl.String, "file": pl.String, "bytes": pl.Int64, "sha256": pl.String}


@dataclass(frozen=True)
class Imported:
    """One checkpoint that was found or expected; with an `inspection` it is usable, without one `reason` says why."""

    name: StepName
    status: str
    reason: str | None = None
    revision: str | None = None
    inspection: Inspection | None = None


def find_checkpoints(source: CheckpointSource, store: CheckpointStore) -> list[StepName]:
    """The names that fit the declared pattern, by step.

    Raises:
        AutomixerError: no name fits.
    """
    names = store.names()
    found = [match for name in names if (match := source.match(name)) is not None]
    if not found:
        shown = ", ".join(names[:SHOWN_NAMES]) or "none at all"
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        raise AutomixerError(
            f"no name in {store.place} fits checkpoints_from.pattern {source.pattern!r} (there are: {shown}{more}): "
            "mend the pattern"
        )
    return sorted(found, key=lambda match: (match.step, match.name))


def wanted_checkpoints(source: CheckpointSource, found: Sequence[StepName]) -> list[StepName]:
    """Those among the found that `steps` asks for, or all."""
    return [name for name in found if source.steps is None or name.step in source.steps]


def import_checkpoints(
    source: CheckpointSource,
    store: CheckpointStore,
    out: Path,
    *,
    tokenizer_folder: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> None:
    """Write `checkpoints.parquet`, `files.parquet`, `run.json` and `tokenizer/` into `out` (docs/tables.md).

    `tokenizer_folder` serves checkpoints that hold no tokenizer of their own.

    Raises:
        AutomixerError: no name fits the pattern, or a download failed.
    """
    found = find_checkpoints(source, store)
    inspector = Inspector(tokenizer_folder)
    taken: dict[int, str] = {}
    imported: list[Imported] = []
    for name in wanted_checkpoints(source, found):
        imported.append(_import(name, taken.setdefault(name.step, name.name), store, inspector))
        if on_progress is not None:
            on_progress(name.name)
    imported = [*_alike(imported), *_missing(source, found, store)]
    imported.sort(key=lambda each: (each.name.step, each.name.name))
    _write_tables(imported, out)
    others = sorted(set(store.names()) - {name.name for name in found})
    _write_run(imported, {"total_steps": found[-1].step, "pattern": source.pattern, "other_names": others}, out)


def _import(name: StepName, holder: str, store: CheckpointStore, inspector: Inspector) -> Imported:
    if holder != name.name:
        return Imported(name, QUARANTINED, f"step {name.step} is already taken by {holder!r}")
    folder = store.fetch(name.name)
    if folder is None:
        return Imported(name, MISSING, "gone since it was listed")
    revision = store.revision(name.name)
    try:
        return Imported(name, USABLE, None, revision, inspector.inspect(folder))
    except AutomixerError as error:  # its folder has no place in the tables: they say the same wherever it lies
        return Imported(name, QUARANTINED, str(error).replace(str(folder), name.name), revision)


def _missing(source: CheckpointSource, found: Sequence[StepName], store: CheckpointStore) -> list[Imported]:
    """Declared steps that no name has."""
    absent = sorted(set(source.steps or ()) - {name.step for name in found})
    return [
        Imported(StepName(source.expected_name(step), step, None), MISSING, "declared in checkpoints_from.steps only")
        for step in absent
    ]


def _alike(imported: Sequence[Imported]) -> list[Imported]:
    """Quarantines what is of another architecture, or has another tokenizer, than most."""
    same_model = _as_most(imported, lambda inspection: inspection.configuration, _other_architecture)
    return _as_most(same_model, lambda inspection: inspection.encoding, _other_tokenizer)


def _as_most(
    imported: Sequence[Imported],
    value: Callable[[Inspection], object],
    said: Callable[[Inspection, Inspection, str], str],
) -> list[Imported]:
    """Those whose value is not the most frequent one are quarantined; among equally frequent ones the latest counts."""
    usable = [(each, each.inspection) for each in imported if each.inspection is not None]
    values = [value(inspection) for _, inspection in usable]
    if not usable:
        return list(imported)
    reference, usual = max(usable, key=lambda pair: (values.count(value(pair[1])), pair[0].name.step))
    return [
        each
        if each.inspection is None or value(each.inspection) == value(usual)
        else replace(
            each, status=QUARANTINED, reason=said(each.inspection, usual, reference.name.name), inspection=None
        )
        for each in imported
    ]


def _other_architecture(own: Inspection, usual: Inspection, name: str) -> str:
    ours, theirs = own.configuration, usual.configuration
    option = min(option for option in ours.keys() | theirs.keys() if ours.get(option) != theirs.get(option))
    return (
        f"another architecture than {name!r} ({option}: {ours.get(option)}, there {theirs.get(option)}): "
        "import it as a proxy of its own"
    )


def _other_tokenizer(own: Inspection, usual: Inspection, name: str) -> str:
    return (
        f"its tokenizer turns text into other ids than that of {name!r}: put the tokenizer there with which it was "
        "trained"
    )


def _write_tables(imported: Sequence[Imported], out: Path) -> None:
    checkpoints, files = [], []
    for each in imported:
        own = each.inspection.files if each.inspection is not None else ()
        checkpoints.append(
            {
                **vars(each.name),
                "revision": each.revision,
                "status": each.status,
                "reason": each.reason,
                "bytes": sum(file.bytes for file in own) if own else None,
                "sha256": digest_of({file.name: file.sha256 for file in own}) if own else None,
            }
        )
        files += [{"name": each.name.name, "file": f.name, "bytes": f.bytes, "sha256": f.sha256} for f in own]
    pl.DataFrame(checkpoints, schema=CHECKPOINTS_SCHEMA).write_parquet(out / "checkpoints.parquet")
    pl.DataFrame(files, schema=FILES_SCHEMA).write_parquet(out / "files.parquet")


def _write_run(imported: Sequence[Imported], document: dict[str, object], out: Path) -> None:
    """`run.json`, and the tokenizer of the last usable checkpoint."""
    usable = [each.inspection for each in imported if each.inspection is not None]
    if usable:
        last = usable[-1]
        document |= {"parameters": last.parameters, "configuration": last.configuration}
        (out / "tokenizer").mkdir()
        for path in tokenizer_files(last.tokenizer):
            shutil.copyfile(path, out / "tokenizer" / path.name)
    (out / "run.json").write_text(json.dumps(document, indent=1) + "\n")
