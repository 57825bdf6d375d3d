from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.export import FORMATS, export_mixture, n_documents
from automixer_assets_tests.export.cases import STANDARD, Wanted, make_case
from automixer_assets_tests.export.readers import snapshot_of

CHILD = """
import os, sys
from pathlib import Path
from automixer_assets.export import export_mixture
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.corpus.shards import open_tokenized
root, out, format, last = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls, fsync = 0, os.fsync
def die(descriptor):
    global calls
    calls += 1
    if calls == last:
        os._exit(9)
    fsync(descriptor)
os.fsync = die
snapshots = {path.name: open_tokenized(path) for path in (root / "tokenized").iterdir()}
export_mixture(load_manifest(root / "manifest.json"), root, snapshots, format, out, corpus=root / "corpus",
               location=Path("/data"), sequence_length=32)
"""


class Stopped(BaseException):
    """Ends an export at once, as no handler of errors sees it."""


@pytest.fixture(params=list(FORMATS))
def format(request) -> str:
    if request.param == "grain":
        pytest.importorskip("array_record", reason="the extra `export` is not installed")
    return request.param


def export(case, format: str, out: Path, **options):
    options = {"location": Path("/data"), "sequence_length": 32, **options}
    return export_mixture(**case.options(), format=format, out=out, **options)


def stop_at(monkeypatch, call: int) -> None:
    """Let the given call of fsync end the export: files are flushed where it matters when a process dies."""
    calls, fsync = 0, os.fsync

    def counted(descriptor):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Stopped
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)


def test_the_report_has_the_digest_of_every_file(case, format, tmp_path):
    report = export(case, format, tmp_path / "out")
    files = snapshot_of(tmp_path / "out")
    assert json.loads(files.pop("export.json")) == report.document
    assert report.document["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert report.document["identity"]["mixture"] == case.manifest.reference


def test_a_stopped_export_goes_on_to_the_same_bytes(case, format, tmp_path, monkeypatch):
    export(case, format, tmp_path / "whole")
    for call in random.Random(1).sample(range(1, 40), 6):
        out = tmp_path / str(call)
        with monkeypatch.context() as patch:
            stop_at(patch, call)
            try:
                export(case, format, out)
            except Stopped:
                assert not (out / "export.json").exists()
        earlier: list[int] = []
        export(case, format, out, on_progress=lambda documents, before, seen=earlier: seen.append(before))
        assert snapshot_of(out) == snapshot_of(tmp_path / "whole")
        assert len(earlier) in (0, 12)  # nothing to do, or every part seen once


def test_finished_parts_are_not_written_again(case, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        with pytest.raises(Stopped):
            export(case, "megatron", tmp_path / "out")
    begun = len((tmp_path / "out" / ".export" / "journal.jsonl").read_text().splitlines())
    before: list[int] = []
    export(case, "megatron", tmp_path / "out", on_progress=lambda documents, earlier: before.append(earlier))
    assert sum(before) == begun > 1


@pytest.mark.parametrize(("written", "call"), [("megatron", 3), ("megatron", 11), ("megatron", 26), ("mosaicml", 17)])
def test_a_killed_process_leaves_an_export_that_goes_on(case, tmp_path, written, call):
    (case.root / "manifest.json").write_text(case.manifest.model_dump_json())
    out = tmp_path / "out"
    child = [sys.executable, "-c", CHILD, str(case.root), str(out), written, str(call)]
    assert subprocess.run(child, check=False).returncode == 9
    export(case, written, out)
    export(case, written, tmp_path / "whole")
    assert snapshot_of(out) == snapshot_of(tmp_path / "whole")


def test_a_line_of_the_journal_that_was_cut_short_is_written_again(case, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        with pytest.raises(Stopped):
            export(case, "megatron", tmp_path / "out")
    journal = tmp_path / "out" / ".export" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    export(case, "megatron", tmp_path / "out")
    export(case, "megatron", tmp_path / "whole")
    assert snapshot_of(tmp_path / "out") == snapshot_of(tmp_path / "whole")


def test_a_complete_export_is_compared_and_not_written_again(case, format, tmp_path):
    first = export(case, format, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = export(case, format, tmp_path / "out")
    assert (first.reused, again.reused) == (False, True)
    assert again.document == first.document
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_a_file_that_changed_afterwards_is_named(case, tmp_path):
    export(case, "megatron", tmp_path / "out")
    with (tmp_path / "out" / "tiny.bin").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(AutomixerError, match=r"tiny\.bin is missing or no longer what the export wrote"):
        export(case, "megatron", tmp_path / "out")


def test_a_file_that_changed_before_the_end_is_named(case, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 20)
        with pytest.raises(Stopped):
            export(case, "megatron", tmp_path / "out")
    with (tmp_path / "out" / "short.bin").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(AutomixerError, match=r"short\.bin is missing or no longer"):
        export(case, "megatron", tmp_path / "out")


def test_a_folder_with_something_else_in_it_is_refused_and_kept(case, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(AutomixerError, match="is not empty and holds no export that could go on"):
        export(case, "megatron", tmp_path)
    assert snapshot_of(tmp_path) == {"notes.txt": b"mine"}


def test_an_output_that_is_a_file_is_refused(case, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AutomixerError, match="is not empty"):
        export(case, "megatron", tmp_path / "out")


@pytest.mark.parametrize("stopped", [True, False])
def test_another_export_in_the_folder_is_refused(case, capped, tmp_path, monkeypatch, stopped):
    with monkeypatch.context() as patch:
        stop_at(patch, 20 if stopped else 10**6)
        try:
            export(case, "megatron", tmp_path / "out")
        except Stopped:
            assert stopped
    with pytest.raises(AutomixerError, match=r"holds another export .mixture "):
        export(capped, "megatron", tmp_path / "out")
    with pytest.raises(AutomixerError, match=r"holds another export .format 'megatron', not 'hf'"):
        export(case, "hf", tmp_path / "out")


def test_two_exports_into_one_folder_at_once_are_refused(case, tmp_path):
    def second(documents: int, earlier: bool) -> None:
        with pytest.raises(AutomixerError, match="is being written by another process"):
            export(case, "megatron", tmp_path / "out")

    export(case, "megatron", tmp_path / "out", on_progress=second)


def test_a_full_disk_is_one_sentence_and_the_export_goes_on_afterwards(case, format, tmp_path, monkeypatch):
    calls, fsync = 0, os.fsync

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls > 15:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AutomixerError, match=r"no disk space left .* run the same command again: it goes on"):
            export(case, format, tmp_path / "out")
    export(case, format, tmp_path / "out")
    export(case, format, tmp_path / "whole")
    assert snapshot_of(tmp_path / "out") == snapshot_of(tmp_path / "whole")


def test_progress_adds_up_to_the_documents(case, format, tmp_path):
    done: list[int] = []
    export(case, format, tmp_path / "out", on_progress=lambda documents, earlier: done.append(documents))
    assert sum(done) == n_documents(case.manifest) == sum(group.n_documents for group in STANDARD)


def test_an_unknown_format_is_refused_with_the_nearest_name(case, tmp_path):
    with pytest.raises(ConfigurationError, match="'megatorn'; did you mean 'megatron'"):
        export(case, "megatorn", tmp_path / "out")


def test_texts_without_a_corpus_are_refused(case, tmp_path):
    options = {**case.options(), "corpus": None}
    with pytest.raises(ConfigurationError, match="needs the texts"):
        export_mixture(**options, format="hf", out=tmp_path / "out")


def test_a_group_without_documents_is_left_out_and_said(tmp_path):
    case = make_case(tmp_path / "case", [Wanted("full", 0.6, 20, 10), Wanted("empty", 0.4, 0, 10)])
    report = export(case, "megatron", tmp_path / "out")
    assert [(group["name"], group["weight"]) for group in report.document["groups"]] == [("full", 1.0)]
    assert "group empty has no token and is left out; the others' shares rise in proportion" in report.document["notes"]


def test_a_mixture_without_any_token_is_refused(tmp_path):
    case = make_case(tmp_path / "case", [Wanted("empty", 1.0, 0, 10), Wanted("unweighted", 0.0, 5, 10)])
    with pytest.raises(AutomixerError, match="no group of the mixture has a token"):
        export(case, "megatron", tmp_path / "out")


def test_names_that_the_trainer_does_not_accept_are_replaced_and_said(format, tmp_path):
    case = make_case(tmp_path / "case", [Wanted("_hidden", 0.6, 20, 10), Wanted(".hidden", 0.4, 20, 10)])
    report = export(case, format, tmp_path / "out")
    labels = [group["label"] for group in report.document["groups"]]
    assert labels == ["group-_hidden", "group-.hidden"]
    assert any("_hidden is called group-_hidden here" in note for note in report.document["notes"])


def test_the_sheet_tells_what_a_stranger_needs(case, format, tmp_path):
    report = export(case, format, tmp_path / "out")
    sheet = (tmp_path / "out" / "MIXTURE.md").read_text()
    assert case.manifest.digest in sheet
    assert f"automixer lineage {case.manifest.reference}" in sheet
    assert report.document["exhaustion"] in sheet
    assert "100,000 tokens in all" in sheet
    for group in report.document["groups"]:
        row = next(line for line in sheet.splitlines() if line.startswith(f"| {group['label']} |"))
        assert f"{group['weight']:.6f}" in row and f"{group['tokens']:,}" in row and f"{group['passes']:.3f}" in row
    assert "/data" in sheet
