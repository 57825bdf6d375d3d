"""The page of a mixture's exports."""

from __future__ import annotations

from typing import Any

import polars as pl


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
