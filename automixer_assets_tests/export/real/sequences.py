"""What packed sequences that a trainer's library gave must be, whatever the library."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automixer_assets.export import export_mixture
from automixer_assets_tests.export.cases import Case
from automixer_assets_tests.export.readers import expected_sequences
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH


def exported(case: Case, format: str, out: Path, **options: Any) -> dict[str, Any]:
    """The report of an export into sequences of SEQUENCE_LENGTH."""
    options = {"sequence_length": SEQUENCE_LENGTH, "batch_size": 8, **options}
    return export_mixture(**case.options(), format=format, out=out, **options).document


def reads_by_group(case: Case, document: dict[str, Any], sequences: np.ndarray) -> dict[str, np.ndarray]:
    """How often each sequence of each group was read; every sequence that was read must be one of them."""
    read = Counter(map(tuple, sequences.tolist()))
    found = {}
    for group in document["groups"]:
        # Sequences of a group with the same ids share what was read of them, so a count may be a fraction.
        copies = Counter(map(tuple, expected_sequences(case, group["name"], SEQUENCE_LENGTH)))
        found[group["name"]] = np.repeat([read.pop(ids, 0) / n for ids, n in copies.items()], list(copies.values()))
    assert not read
    return found


def assert_shares(document: dict[str, Any], reads: dict[str, np.ndarray]) -> None:
    """Sequences come out in the mixture's shares of tokens, within .01; groups without weight do not come out."""
    total = sum(counts.sum() for counts in reads.values())
    assert "unweighted" not in reads
    for group in document["groups"]:
        assert reads[group["name"]].sum() / total == pytest.approx(group["share_of_tokens"], abs=0.01)
