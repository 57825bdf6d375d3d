"""Judging results against the planted truth: do scores and selections find the documents that teach?

The pipeline never reads the truth. `truth` is the table of `truth/documents.parquet` throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.microworld.skills import SKILLS

OVERALL = "overall"


@dataclass(frozen=True)
class TeachingShare:
    """How much of a selection teaches a skill; `tokens` is None where no token counts were given."""

    documents: float
    tokens: float | None


def read_truth(folder: Path) -> pl.DataFrame:
    """The ground truth of a micro-world: snapshot, doc_id, kind, skill, facts."""
    return pl.read_parquet(folder / "truth" / "documents.parquet")


def planted_auc(truth: pl.DataFrame, utilities: pl.DataFrame, *, score: str = "utility") -> pl.DataFrame:
    """How well the column `score` ranks documents that teach above those that do not; .5 is chance, higher is better.

    Args:
        utilities: snapshot, doc_id and `score`; may cover a part of the truth.
    Returns:
        A row per task and one named `overall`: task, auc (null where a side is empty), n_planted, n_other. For a task
        the planted documents are those of its skill; the others are all that teach no skill, wrong ones included.
    """
    scored = _scored(truth, utilities, score)
    other = scored.filter(pl.col("kind") != "skill")["score"]
    planted = scored.filter(pl.col("kind") == "skill")
    sides = {skill.task: planted.filter(pl.col("skill") == skill.name)["score"] for skill in SKILLS}
    rows = [
        {"task": task, "auc": _auc(side, other), "n_planted": len(side), "n_other": len(other)}
        for task, side in {**sides, OVERALL: planted["score"]}.items()
    ]
    columns = {"task": pl.String, "auc": pl.Float64, "n_planted": pl.Int64, "n_other": pl.Int64}
    return pl.DataFrame(rows, schema=columns)


def teaching_share(truth: pl.DataFrame, doc_ids: Sequence[str], n_tokens: Sequence[int] | None = None) -> TeachingShare:
    """Share of the listed documents, and of their tokens, that teach a skill; a document listed twice counts twice."""
    if not len(doc_ids):
        raise AutomixerError("no documents to take a share of: pass at least one doc_id to teaching_share")
    if n_tokens is not None and len(n_tokens) != len(doc_ids):
        raise AutomixerError(
            f"teaching_share got {len(doc_ids)} doc_ids and {len(n_tokens)} token counts: pass one count per document"
        )
    listed = pl.DataFrame({"doc_id": list(doc_ids), "n_tokens": list(n_tokens or [0] * len(doc_ids))})
    known = listed.join(truth.select("doc_id", "kind"), on="doc_id", how="left", maintain_order="left")
    _refuse_unknown(known)
    teaches = known["kind"] == "skill"
    share = None if n_tokens is None else int(known.filter(teaches)["n_tokens"].sum()) / int(known["n_tokens"].sum())
    return TeachingShare(documents=float(teaches.sum() / len(teaches)), tokens=share)


def _scored(truth: pl.DataFrame, utilities: pl.DataFrame, score: str) -> pl.DataFrame:
    missing = {"snapshot", "doc_id", score} - set(utilities.columns)
    if missing:
        raise AutomixerError(
            f"utilities lack the columns {sorted(missing)}: planted_auc needs snapshot, doc_id, {score}"
        )
    chosen = utilities.select("snapshot", "doc_id", pl.col(score).cast(pl.Float64).alias("score"))
    undefined = chosen.filter(pl.col("score").is_null() | pl.col("score").is_nan())
    if undefined.height:
        raise AutomixerError(
            f"{undefined.height} utilities are null or NaN, the first for {undefined['doc_id'][0]}: "
            "drop these rows or score them again"
        )
    joined = chosen.join(truth, on=["snapshot", "doc_id"], how="left")
    _refuse_unknown(joined)
    return joined


def _refuse_unknown(joined: pl.DataFrame) -> None:
    unknown = joined.filter(pl.col("kind").is_null())
    if unknown.height:
        raise AutomixerError(
            f"{unknown.height} documents are not in the micro-world's truth, the first is {unknown['doc_id'][0]}: "
            "use the truth of the folder that the documents came from"
        )


def _auc(planted: pl.Series, other: pl.Series) -> float | None:
    """Mann-Whitney: the probability that a planted document scores above another one, a tie counting half."""
    if not len(planted) or not len(other):
        return None
    ranks = pl.concat([planted, other]).rank("average").head(len(planted))
    above = float(ranks.sum()) - len(planted) * (len(planted) + 1) / 2
    return above / (len(planted) * len(other))
