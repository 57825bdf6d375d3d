from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.export import export_mixture, source
from automixer_assets.export import mosaicml as module
from automixer_assets_tests.export.cases import STANDARD, Wanted, make_case
from automixer_assets_tests.export.readers import expected_documents, expected_sequences, read_mds, snapshot_of


def export(case, out, **options):
    return export_mixture(**case.options(), format="mosaicml", out=out, **options).document


@pytest.mark.parametrize("length", [2, 7, 64, 1999, 2000])
def test_a_groups_documents_are_one_stream_that_is_cut(case, tmp_path, length):
    export(case, tmp_path / "out", sequence_length=length)
    for group in STANDARD:
        assert read_mds(tmp_path / "out" / group.name) == expected_sequences(case, group.name, length)


def test_what_fills_no_sequence_is_counted_and_said(case, tmp_path):
    document = export(case, tmp_path / "out", sequence_length=37)
    for group in document["groups"]:
        n_tokens = sum(map(len, expected_documents(case, group["name"])))
        assert (group["tokens"], group["left_over_tokens"]) == (n_tokens // 37 * 37, n_tokens % 37)
        assert f"the last {n_tokens % 37} tokens of {group['name']} fill no sequence" in " ".join(document["notes"])


def test_a_part_shorter_than_a_sequence_passes_everything_on(tmp_path):
    case = make_case(tmp_path / "case", [Wanted("few", 1.0, 6, 10)])  # two documents in each shard at most
    export(case, tmp_path / "out", sequence_length=50)
    assert read_mds(tmp_path / "out" / "few") == expected_sequences(case, "few", 50)
    assert len(list((tmp_path / "out" / "few").glob("*.mds"))) == 1


def test_a_group_without_a_whole_sequence_is_left_out_and_said(case, tmp_path):
    document = export(case, tmp_path / "out", sequence_length=2001)  # the group tiny has 2,000 tokens
    assert [group["name"] for group in document["groups"]] == ["short", "long"]
    assert [group["share_of_tokens"] for group in document["groups"]] == pytest.approx([2 / 7, 5 / 7])
    assert "group tiny has no sequence of 2,001 tokens and is left out" in " ".join(document["notes"])


def test_a_mixture_without_a_whole_sequence_is_refused(tmp_path):
    case = make_case(tmp_path / "case", [Wanted("few", 1.0, 6, 10)])
    with pytest.raises(AutomixerError, match="fills a sequence of 100 tokens: choose a smaller --sequence-length"):
        export(case, tmp_path / "out", sequence_length=100)


def test_bytes_do_not_depend_on_how_many_documents_are_held_at_once(case, tmp_path, monkeypatch):
    export(case, tmp_path / "whole", sequence_length=32, location=tmp_path)
    monkeypatch.setattr(source, "BATCH_TOKENS", 100)
    export(case, tmp_path / "batches", sequence_length=32, location=tmp_path)
    assert snapshot_of(tmp_path / "batches") == snapshot_of(tmp_path / "whole")


def test_files_end_at_their_limit_and_hold_the_same_sequences(case, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 1000)  # 15 sequences of 32 ids of 2 bytes
    export(case, tmp_path / "out", sequence_length=32)
    assert read_mds(tmp_path / "out" / "long") == expected_sequences(case, "long", 32)
    counts = [int(np.fromfile(path, "<u4", 1)[0]) for path in sorted((tmp_path / "out" / "long").glob("*.mds"))]
    assert max(counts) == 15 and len(counts) > 80


def test_memory_does_not_grow_with_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BATCH_TOKENS", 10_000)
    monkeypatch.setattr(module, "SHARD_BYTES", 20_000)

    def peak(n_documents: int) -> int:
        case = make_case(tmp_path / f"case{n_documents}", [Wanted("one", 1.0, n_documents, 500)])
        tracemalloc.start()
        export(case, tmp_path / f"out{n_documents}", sequence_length=64)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(40)  # what is imported and cached once
    assert peak(1_600) < peak(200) + 200_000  # the large parts hold 400,000 bytes of ids each


def test_a_capped_group_gives_no_sequence_more_than_its_cap(capped, tmp_path):
    document = export(capped, tmp_path / "out", sequence_length=64)
    for group in document["groups"]:
        assert group["run_tokens"] <= 2 * group["tokens"]
