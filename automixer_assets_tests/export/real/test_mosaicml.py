# pyright: reportMissingImports=false
from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

from automixer_assets_tests.export.cases import make_case
from automixer_assets_tests.export.readers import expected_sequences
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH
from automixer_assets_tests.export.real.libraries import require_library
from automixer_assets_tests.export.real.sequences import assert_shares, exported, reads_by_group


def stand_in_for_torchvision() -> None:
    """Streaming imports torchvision for its image datasets; the wheel that pip finds for it needs CUDA."""
    import transformers  # noqa: F401  which looks for torchvision while it is not there yet

    modules = {name: types.ModuleType(f"torchvision{name}") for name in ("", ".datasets", ".transforms")}
    functional = types.ModuleType("torchvision.transforms.functional")
    vars(modules[".datasets"]).update(VisionDataset=object)
    vars(functional).update(to_tensor=None)
    for module in [*modules.values(), functional]:
        sys.modules.setdefault(module.__name__, module)


stand_in_for_torchvision()
require_library("streaming", "mosaicml-streaming")


def read(out: Path, **options) -> np.ndarray:
    """All samples of an epoch, [samples, SEQUENCE_LENGTH], of the data set that the YAML describes."""
    from streaming import Stream, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    configured = yaml.safe_load((out / "train_loader.yaml").read_text())["train_loader"]["dataset"]
    streams = [Stream(**stream) for stream in configured["streams"].values()]
    options = {key: configured[key] for key in ("epoch_size", "shuffle", "shuffle_seed")} | options
    dataset = StreamingDataset(streams=streams, batch_size=8, **options)
    return np.stack([sample["tokens"] for sample in dataset])


def test_tokens_come_out_in_the_mixtures_shares_and_groups_repeat(large, tmp_path):
    document = exported(large, "mosaicml", tmp_path / "out")
    reads = reads_by_group(large, document, read(tmp_path / "out"))
    assert_shares(document, reads)
    assert sum(counts.sum() for counts in reads.values()) == document["run_tokens"] // SEQUENCE_LENGTH
    passes = next(group["passes"] for group in document["groups"] if group["name"] == "tiny")
    assert int(passes) <= reads["tiny"].min() and reads["tiny"].max() <= int(passes) + 1
    assert "a group with fewer is repeated within the epoch: this run repeats" in document["exhaustion"]


def test_without_the_epoch_size_the_run_is_another_one(large, tmp_path):
    exported(large, "mosaicml", tmp_path / "out")
    with_it = len(read(tmp_path / "out"))
    samples = sum(len(expected_sequences(large, name, SEQUENCE_LENGTH)) for name in ("short", "long", "tiny"))
    assert len(read(tmp_path / "out", epoch_size=None)) == samples != with_it


def test_caps_hold_over_the_whole_run(capped, tmp_path):
    document = exported(capped, "mosaicml", tmp_path / "out")
    reads = reads_by_group(capped, document, read(tmp_path / "out"))
    assert_shares(document, reads)
    for counts in reads.values():
        assert (counts > 2).sum() <= 1  # the sample by which Streaming rounds
    assert reads["tiny"].mean() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("vocab_size", [60_000, 70_000])
def test_the_librarys_writer_gives_the_same_bytes(tmp_path, vocab_size):
    from streaming import MDSWriter

    case = make_case(tmp_path / "case", vocab_size=vocab_size)
    exported(case, "mosaicml", tmp_path / "ours")
    dtype = "uint16" if vocab_size <= 2**16 else "uint32"
    parts = sorted((tmp_path / "ours" / "long").glob("*.mds"))
    sequences = iter(expected_sequences(case, "long", SEQUENCE_LENGTH))
    for number, part in enumerate(parts):
        theirs = tmp_path / f"theirs{number}"
        n_samples = int(np.fromfile(part, "<u4", 1)[0])
        with MDSWriter(out=str(theirs), columns={"tokens": f"ndarray:{dtype}:{SEQUENCE_LENGTH}"}) as writer:
            for _ in range(n_samples):
                writer.write({"tokens": np.array(next(sequences), dtype)})
        assert (theirs / "shard.00000.mds").read_bytes() == part.read_bytes()
    assert len(parts) == 4 and not list(sequences)
