"""A manifest's exposure ledger: what is read and what its samples leave out, as the readers of the manifest find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.exposure import ExposureSummary, write_exposure, write_most_read
from automixer_assets.mixture.groups import Selection, list_selections
from automixer_assets.mixture.manifest import Manifest, ManifestGroup
from automixer_assets.mixture.parquet import write_table
from automixer_assets.mixture.selected import sampled_rows

TOLERANCE = 1e-9
"""Passes are quotients of whole numbers, and sums of them are off in the last bits."""


def write_ledger(
    manifest: Manifest, grouped: Path, snapshots: Mapping[str, TokenizedSnapshot], out: Path
) -> ExposureSummary:
    """Write `exposure.parquet` and `most_read.parquet` into the folder `out`.

    Args:
        grouped: the grouped_shards folder that the manifest was made from.
    """
    groups = {group.name: group for group in manifest.groups}
    with TemporaryDirectory(prefix="automixer-samples-") as folder:
        read, unread = [], []
        for selection in list_selections(grouped):
            if groups[selection.group].subsample is None:
                read.append(selection)
                continue
            inside, outside = _divided(selection, groups[selection.group], Path(folder))
            read.append(inside)
            unread.append(outside)
        summary = write_exposure(
            selections=read,
            unread=unread,
            snapshots=snapshots,
            passes={group.name: group.passes for group in manifest.groups},
            out=out / "exposure.parquet",
        )
        write_most_read(out / "exposure.parquet", [*read, *unread], snapshots, out / "most_read.parquet")
    return summary


def require_document_epochs(max_document_epochs: float | None, out: Path) -> None:
    """Raise AutomixerError where a written ledger exceeds the mixture's `max_document_epochs`.

    The allocation keeps to it for groups that are read in any part. A sample is read whole while the rest of its group
    is not, so a document in the samples of several groups may be read more often than their shares say.
    """
    if max_document_epochs is None:
        return
    most = pl.read_parquet(out / "most_read.parquet").row(0, named=True)
    if most["expected_exposures"] > max_document_epochs * (1 + TOLERANCE):
        raise AutomixerError(
            f"document {most['doc_id']!r} ({most['snapshot']}) would be read {most['expected_exposures']:.3g} times, "
            f"above `max_document_epochs: {max_document_epochs:g}`, because it is in the samples of several groups; "
            "set `over_budget: hash_order`, where no document is preferred, or raise the limit"
        )


def _divided(selection: Selection, group: ManifestGroup, folder: Path) -> tuple[Selection, Selection]:
    """The selection's rows that are read, and those that are not, as files of their own."""
    rows = pl.read_parquet(selection.path, columns=["row", "n_tokens"])
    chosen = sampled_rows(selection.path, group).select("row", "n_tokens")
    parts = []
    for name, part in (("read", chosen), ("unread", rows.join(chosen, on="row", how="anti", maintain_order="left"))):
        path = folder / name / selection.group / selection.snapshot / f"{selection.shard}.parquet"
        write_table(part.to_arrow(), path)
        parts.append(replace(selection, path=path))
    return parts[0], parts[1]
