"""The page of a mixture's exports."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import polars as pl

from automixer_assets import metadata
from automixer_assets.export import REPORT, SHEET
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata

LISTING = "exports.json"
"""The formats, in the order of the settings."""
NONE_LISTED = (
    "none: list formats under the mixture's `exports`, or run `automixer mixture export NAME --format F --out DIR`"
)


def show_trainer_exports(artifact: Artifact) -> Metadata:
    folders = [artifact.path / format for format in json.loads((artifact.path / LISTING).read_text())]
    shown: Metadata = {"exports": ", ".join(folder.name for folder in folders) or NONE_LISTED}
    for folder in folders:
        document = json.loads((folder / REPORT).read_text())
        shown |= {
            f"{folder.name}: folder": dg.MetadataValue.path(str(folder)),
            f"{folder.name}: groups": metadata.table(export_groups(document)),
            f"{folder.name}: when a group runs out": document["exhaustion"],
            f"{folder.name}: what to point the trainer at": dg.MetadataValue.md((folder / SHEET).read_text()),
        }
    return shown


def export_groups(document: dict[str, Any]) -> pl.DataFrame:
    """The groups of an `export.json` as a person compares them."""
    return pl.DataFrame(
        [
            {
                "group": group["label"],
                "share of tokens": group["share_of_tokens"],
                f"weight ({document['unit_of_weights']})": group["weight"],
                "documents": group["documents"],
                "tokens": group["tokens"],
                "run tokens": group["run_tokens"],
                "passes": group["passes"],
            }
            for group in document["groups"]
        ]
    )
