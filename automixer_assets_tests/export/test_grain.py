from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.export import export_mixture
from automixer_assets.export.grain import mixing_weights


def as_grain_mixes(weights: list[float]) -> np.ndarray:
    """Shares that Grain 0.2 gives: the smallest weight scaled to 100, the others cut off to whole numbers."""
    whole = np.array([int(weight * (100 / min(weights))) for weight in weights])
    return whole / whole.sum()


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
def test_grain_mixes_within_half_a_percent_of_every_share(raw):
    shares = np.array(raw) / sum(raw)
    weights = list(mixing_weights({str(i): share for i, share in enumerate(shares.tolist())}).values())
    normalised = [weight / sum(weights) for weight in weights]  # as MaxText hands them on
    for given_weights in (weights, normalised):
        np.testing.assert_allclose(as_grain_mixes(given_weights), shares, rtol=0.0051)


def test_a_missing_library_is_said_before_anything_is_written(case, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(AutomixerError, match=r"grain needs the package array_record.*automixer-assets\[export\]"):
        export_mixture(**case.options(), format="grain", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_maxtexts_mixture_names_files_and_weights(case, tmp_path):
    pytest.importorskip("array_record", reason="the extra `export` is not installed")
    out = tmp_path / "a [strange] folder"
    export_mixture(**case.options(), format="grain", out=out, sequence_length=64)
    mixture = json.loads((out / "maxtext_mixture.json").read_text())
    assert as_grain_mixes([group["weight"] for group in mixture.values()]) == pytest.approx([0.2, 0.5, 0.3])
    assert list(mixture) == ["short", "long", "tiny"]
    assert mixture["tiny"]["path"] == f"{tmp_path}/a [[]strange] folder/tiny/*.array_record"
    assert len(list((out / "tiny").glob("*.array_record"))) == 4
