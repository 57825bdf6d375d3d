# pyright: reportMissingImports=false
from __future__ import annotations

import glob
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from automixer_assets_tests.export.cases import STANDARD, Wanted, make_case
from automixer_assets_tests.export.readers import expected_sequences, read_example
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH
from automixer_assets_tests.export.real.libraries import require_library
from automixer_assets_tests.export.real.sequences import assert_shares, exported, reads_by_group

require_library("grain", "grain")


def load_mixture(out: Path, seed: int = 0):
    """What the exported script gives."""
    spec = importlib.util.spec_from_file_location("load_grain", out / "load_grain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_mixture(seed=seed)


def read(out: Path) -> np.ndarray:
    """All sequences of the run, [n, SEQUENCE_LENGTH]."""
    dataset = load_mixture(out)
    return np.stack([dataset[i] for i in range(len(dataset))])


def test_tokens_come_out_in_the_mixtures_shares_and_groups_repeat(large, tmp_path):
    document = exported(large, "grain", tmp_path / "out")
    sequences = read(tmp_path / "out")
    assert (sequences.dtype, len(sequences)) == (np.int32, document["run_tokens"] // SEQUENCE_LENGTH)
    reads = reads_by_group(large, document, sequences)
    assert_shares(document, reads)
    passes = next(group["passes"] for group in document["groups"] if group["name"] == "tiny")
    assert int(passes) <= reads["tiny"].min() and reads["tiny"].max() <= int(passes) + 1


def test_caps_hold_over_the_whole_run(capped, tmp_path):
    document = exported(capped, "grain", tmp_path / "out")
    reads = reads_by_group(capped, document, read(tmp_path / "out"))
    assert_shares(document, reads)
    for counts in reads.values():
        assert (counts > 2).mean() <= 0.005  # Grain's rounding of weights


def test_every_pass_is_shuffled_anew(large, tmp_path):
    exported(large, "grain", tmp_path / "out")
    n_sequences = len(expected_sequences(large, "tiny", SEQUENCE_LENGTH))
    tiny = [ids for ids in read(tmp_path / "out").tolist() if 3000 <= max(ids) < 4000]
    first, second = tiny[:n_sequences], tiny[n_sequences : 2 * n_sequences]
    assert first != second and sorted(first) == sorted(second)


def maxtext(mixture: Path, num_epoch: int) -> list[int]:
    """Indices of the groups that MaxText draws from its mixture file: its own steps on one host, in grain alone."""
    import grain

    configured = json.loads(mixture.read_text())
    datasets = {}
    for name, group in configured.items():
        files = glob.glob(str(Path(group["path"]).expanduser().resolve()))  # noqa: PTH207  as MaxText does
        dataset = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files)).shuffle(seed=0)
        datasets[name] = dataset.repeat(num_epoch).to_iter_dataset()
    total = sum(float(group["weight"]) for group in configured.values())
    weights = {name: group["weight"] / total for name, group in configured.items()}
    mixed = grain.IterDataset.mix(datasets, weights)
    return [max(read_example(record)["text"]) // 1000 - 1 for record in mixed]


def test_maxtexts_mixture_gives_the_same_shares_for_the_whole_run(large, tmp_path):
    document = exported(large, "grain", tmp_path / "out")
    assert "num_epoch=16" in (tmp_path / "out" / "MIXTURE.md").read_text()
    run_sequences = document["run_tokens"] // SEQUENCE_LENGTH
    drawn = maxtext(tmp_path / "out" / "maxtext_mixture.json", num_epoch=16)
    assert len(drawn) >= run_sequences
    shares = np.bincount(drawn[:run_sequences]) / run_sequences
    assert shares == pytest.approx([group.weight for group in STANDARD], abs=0.005)


def test_shares_that_grain_would_cut_off_are_rounded(tmp_path):
    """199.9 of the smallest would become 199, and 149.99 would become 149."""
    weights = (1.0, 1.999, 1.4999)
    groups = [Wanted(f"g{i}", weight / sum(weights), 500, 100) for i, weight in enumerate(weights)]
    case = make_case(tmp_path / "case", groups, token_budget=640_000)
    exported(case, "grain", tmp_path / "out")
    owners = [max(ids) // 1000 - 1 for ids in read(tmp_path / "out").tolist()]
    realised = np.bincount(owners) / len(owners)
    assert realised == pytest.approx([group.weight for group in groups], rel=0.001)


@pytest.mark.parametrize("vocab_size", [60_000, 70_000])
def test_records_are_the_groups_sequences_in_order(tmp_path, vocab_size):
    from array_record.python.array_record_module import ArrayRecordReader

    case = make_case(tmp_path / "case", vocab_size=vocab_size)
    exported(case, "grain", tmp_path / "out")
    files = sorted((tmp_path / "out" / "short").glob("*.array_record"))
    records = itertools.chain.from_iterable(ArrayRecordReader(str(file)).read_all() for file in files)
    assert [read_example(record)["text"] for record in records] == expected_sequences(case, "short", SEQUENCE_LENGTH)
