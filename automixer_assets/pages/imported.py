"""Page of an imported proxy's run."""

from __future__ import annotations

import json

import polars as pl

from automixer_assets import metadata
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Metadata
from automixer_assets.proxy.imported import USABLE

SHOWN_OPTIONS = ("model_type", "vocab_size", "tie_word_embeddings")


def show_imported_run(artifact: Artifact) -> Metadata:
    checkpoints = pl.read_parquet(artifact.path / "checkpoints.parquet")
    run = json.loads((artifact.path / "run.json").read_text())
    usable = checkpoints.filter(pl.col("status") == USABLE)
    rejected = checkpoints.filter(pl.col("status") != USABLE)
    counts = checkpoints.group_by("status", maintain_order=True).len("checkpoints")
    configuration = run.get("configuration", {})
    return {
        "checkpoints": usable.height,
        "not usable": metadata.table(rejected.select("step", "name", "status", "reason")),
        "by status": metadata.table(counts),
        "usable": metadata.table(usable.select("step", "name", "tokens", "bytes", "sha256", "revision")),
        "usable steps": ", ".join(map(str, usable["step"])) or "none",
        "steps of the whole run": run["total_steps"],
        "parameters": run.get("parameters", "unknown"),
        "architecture": ", ".join(f"{name}={configuration[name]}" for name in SHOWN_OPTIONS if name in configuration),
        "names that do not fit the pattern": ", ".join(run["other_names"]) or "none",
    }
