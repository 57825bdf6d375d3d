"""Documents as rows of FineWeb: its columns, with invented but plausible crawl metadata."""

from __future__ import annotations

import random
import re
import uuid
from typing import Any

import pyarrow as pa

from automixer_assets.microworld.documents import Document

SCHEMA = pa.schema(
    {
        "text": pa.string(),
        "id": pa.string(),
        "dump": pa.string(),
        "url": pa.string(),
        "date": pa.string(),
        "file_path": pa.string(),
        "language": pa.string(),
        "language_score": pa.float64(),
        "token_count": pa.int64(),
        "score": pa.float64(),
        "int_score": pa.int64(),
    }
)
FILES_PER_SNAPSHOT = 2
QUALITY = {"skill": 3.2, "wrong": 3.1, "filler": 2.9, "boilerplate": 2.0, "spam": 1.9, "shuffled": 1.8}
"""Centre of the educational score of each kind; its noise is wide, as a classifier's would be."""
FLUENT_KINDS = ("skill", "wrong", "filler", "boilerplate")


def file_name(part: int) -> str:
    return f"000_{part:05d}.parquet"


def fineweb_row(document: Document, seed: int, snapshot: str, number: int, count: int) -> dict[str, Any]:
    """Row `number` of `count`; it depends on nothing but its arguments."""
    rng = random.Random(f"microworld row {seed} {snapshot} {number}")
    score = min(5.0, max(0.0, rng.gauss(QUALITY[document.kind], 0.8)))
    language_score = rng.uniform(0.85, 0.99) if document.kind in FLUENT_KINDS else rng.uniform(0.66, 0.95)
    return {
        "text": document.text,
        "id": document_id(seed, snapshot, number),
        "dump": snapshot,
        "url": f"https://site-{rng.randrange(200):03d}.example/page/{rng.randrange(100_000):05d}",
        "date": _date(snapshot, rng),
        "file_path": f"{snapshot}/segments/{part_of(number, count)}/warc/part-{number // 100:05d}.warc.gz",
        "language": "en",
        "language_score": round(language_score, 4),
        "token_count": len(re.findall(r"\w+|[^\w\s]", document.text)),
        "score": round(score, 4),
        "int_score": round(score),
    }


def document_id(seed: int, snapshot: str, number: int) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'microworld/{seed}/{snapshot}/{number}')}>"


def part_of(number: int, count: int) -> int:
    """Which source file a row lies in: the files hold consecutive rows, about equally many."""
    return number * FILES_PER_SNAPSHOT // count


def _date(snapshot: str, rng: random.Random) -> str:
    _, year, month = snapshot.split("-")
    clock = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}"
    return f"{year}-{month}-{rng.randint(1, 28):02d}T{clock}Z"
