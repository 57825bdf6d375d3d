"""Score some documents again at the pinned checkpoints: the one part of a mixture that needs its models.

Documents are drawn by the hash of their id, so that nobody chose them. They run in other batches than they did, so the
last digits differ; a score of another document, model or query is off by far more than the tolerance.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence

import numpy as np
import polars as pl

from automixer_assets.answers.explain import Place
from automixer_assets.answers.findings import Check
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.influence.shard import options_of
from automixer_assets.progress import Progress

TOLERANCE, HALF_TOLERANCE = 1e-3, 0.1
"""Of a score's own size, or of the typical size of the drawn scores where that is larger; of scores in bfloat16, whose
rounding other batches change."""


def rescore(inputs: PinnedInputs, n_documents: int, progress: Progress) -> Check:
    """Compare the stored scores of some documents with scores made now; progress counts checkpoints."""
    check = Check("rescored", f"Do {n_documents} documents score at the checkpoints as they did?")
    if not inputs.score_columns:  # uniform, random, words counted
        check.note = f"scorer {inputs.recipe.scorer} scores at no checkpoint"
        return check
    places = drawn_documents(inputs, n_documents)
    for checkpoint in inputs.score_columns:
        with check.reading(f"rescoring at {checkpoint}"):
            _rescore_at(check, inputs, checkpoint, places)
        progress.advance(1)
    return check


def drawn_documents(inputs: PinnedInputs, n_documents: int) -> list[Place]:
    """The documents whose ids have the smallest sha256, over all snapshots; memory is bounded by a shard's ids."""
    smallest: list[tuple[str, Place]] = []
    for snapshot in inputs.snapshots:
        for shard in inputs.corpus(snapshot).shards:
            ids = pl.read_parquet(shard.documents_path, columns=["doc_id"])["doc_id"]
            keyed = ((hashlib.sha256(each.encode()).hexdigest(), row, each) for row, each in enumerate(ids))
            found = heapq.nsmallest(n_documents, keyed)
            own = [(key, Place(snapshot, shard.name, row, each)) for key, row, each in found]
            smallest = heapq.nsmallest(n_documents, [*smallest, *own], key=lambda pair: pair[0])
    return [place for _, place in smallest]


def _rescore_at(check: Check, inputs: PinnedInputs, checkpoint: str, places: Sequence[Place]) -> None:
    from automixer_assets.influence import InfluenceQuery, model_digest, score_documents
    from automixer_assets.proxy.model import load_model
    from automixer_assets.proxy.tokenizer import tokenizer_digest

    folder = inputs.folder(f"{inputs.manifest.proxy}/proxy_checkpoints", checkpoint)
    query = InfluenceQuery.load(
        inputs.query(checkpoint), model_digest=model_digest(folder), tokenizer_digest=tokenizer_digest(folder)
    )
    columns = [f"influence_{direction}" for direction in query.names]
    half = _half(inputs, checkpoint, places[0])
    tolerance = TOLERANCE if half is None else HALF_TOLERANCE
    table = score_documents(load_model(folder), _token_ids(inputs, places), query, dtype=half)
    found = np.array([table[name].to_numpy() for name in columns]).T  # [documents, directions]
    stored = np.array([_stored(inputs, checkpoint, place, columns) for place in places])
    scale = np.maximum(np.abs(stored), np.median(np.abs(stored), axis=0))
    check.n_compared += stored.size
    for row, column in np.argwhere(~(np.abs(found - stored) <= tolerance * scale)).tolist():
        place, path = places[row], inputs.influence(checkpoint, places[row].snapshot)
        where = f"{path / place.shard}.parquet: {columns[column]} of {place.doc_id!r}, row {place.row}"
        check.differ(where, float(stored[row, column]), float(found[row, column]))
    largest = float((np.abs(found - stored) / scale).max())
    check.note = f"{check.note}{checkpoint}: at most {largest:.1e} off; "


def _token_ids(inputs: PinnedInputs, places: Sequence[Place]) -> list[np.ndarray]:
    """Whole documents, end-of-document id included, as they were scored."""
    shards = {(each.snapshot, each.name): each for name in inputs.snapshots for each in inputs.corpus(name).shards}
    return [np.asarray(shards[each.snapshot, each.shard].document_tokens(each.row)) for each in places]


def _half(inputs: PinnedInputs, checkpoint: str, place: Place) -> str | None:
    """The half-precision type that a snapshot was scored in, as its files say."""
    options = options_of(inputs.influence(checkpoint, place.snapshot) / f"{place.shard}.parquet")
    return (options.get("backend") or {}).get("dtype")


def _stored(inputs: PinnedInputs, checkpoint: str, place: Place, columns: Sequence[str]) -> tuple[float, ...]:
    path = inputs.influence(checkpoint, place.snapshot) / f"{place.shard}.parquet"
    return pl.scan_parquet(path).slice(place.row, 1).select(columns).collect().row(0)
