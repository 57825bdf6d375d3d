# pyright: reportMissingImports=false
from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from automixer_assets_tests.export.cases import make_case
from automixer_assets_tests.export.readers import expected_sequences, snapshot_of
from automixer_assets_tests.export.real.conftest import SEQUENCE_LENGTH
from automixer_assets_tests.export.real.libraries import require_library
from automixer_assets_tests.export.real.sequences import assert_shares, exported, reads_by_group

require_library("litdata", "litdata")


def load_mixture(out: Path, seed: int = 0):
    """What the exported script gives."""
    spec = importlib.util.spec_from_file_location("load_litdata", out / "load_litdata.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_mixture(seed=seed)


def read(out: Path, limit: int | None) -> np.ndarray:
    """Sequences [n, SEQUENCE_LENGTH]: all, or as many as `limit`."""
    return np.stack([ids.numpy() for ids in itertools.islice(load_mixture(out), limit)])


def test_tokens_come_out_in_the_mixtures_shares_and_groups_repeat(large, tmp_path):
    document = exported(large, "litdata", tmp_path / "out")
    # 15,625 draws at random: a standard deviation of a share is .004 at most
    reads = reads_by_group(large, document, read(tmp_path / "out", document["run_tokens"] // SEQUENCE_LENGTH))
    assert_shares(document, reads)
    assert reads["tiny"].max() - reads["tiny"].min() <= 1  # whole passes, the last one begun
    assert reads["tiny"].mean() > 10
    assert "starts that group again, reshuffled and without end" in document["exhaustion"]


def test_caps_hold_and_the_mixture_ends_there(capped, tmp_path):
    document = exported(capped, "litdata", tmp_path / "out")
    reads = reads_by_group(capped, document, read(tmp_path / "out", None))
    assert_shares(document, reads)
    assert max(counts.max() for counts in reads.values()) <= 2
    assert any((counts == 2).all() for counts in reads.values())  # the group that ended it
    n_read = sum(counts.sum() for counts in reads.values())
    assert n_read * SEQUENCE_LENGTH == pytest.approx(document["run_tokens"], rel=0.05)


def test_loader_processes_share_the_groups_and_leave_the_files_as_they_are(large, tmp_path):
    from litdata import StreamingDataLoader

    document = exported(large, "litdata", tmp_path / "out")
    before = snapshot_of(tmp_path / "out")
    loader = StreamingDataLoader(load_mixture(tmp_path / "out"), batch_size=8, num_workers=2)
    batches = [batch.long().numpy() for batch in itertools.islice(loader, 1000)]
    reads = reads_by_group(large, document, np.concatenate(batches))
    assert_shares(document, reads)
    after = snapshot_of(tmp_path / "out")
    assert {name: content for name, content in after.items() if "__pycache__" not in name} == before


def test_its_own_state_resumes_within_the_first_pass_and_refuses_later(large, tmp_path):
    from litdata import StreamingDataLoader

    exported(large, "litdata", tmp_path / "out")

    def resumed(after: int, then: int) -> tuple[list, list]:
        loader = StreamingDataLoader(load_mixture(tmp_path / "out"), batch_size=4)
        batches, states = [], []
        for batch in itertools.islice(loader, after + then):
            batches.append(batch.tolist())
            states.append(loader.state_dict() if len(batches) == after else None)
        loader = StreamingDataLoader(load_mixture(tmp_path / "out"), batch_size=4)
        loader.load_state_dict(states[after - 1])
        return [batch.tolist() for batch in itertools.islice(loader, then)], batches[after:]

    again, first = resumed(after=50, then=10)
    assert again == first
    with pytest.raises(ValueError, match="greater than the dataset length"):
        resumed(after=1500, then=10)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(60_000, "uint16"), (70_000, "int32")])
def test_the_librarys_writer_gives_the_same_chunks(tmp_path, vocab_size, dtype):
    import torch
    from litdata import TokensLoader
    from litdata.streaming.cache import Cache

    case = make_case(tmp_path / "case", vocab_size=vocab_size)
    exported(case, "litdata", tmp_path / "ours")
    chunk = next(iter(sorted((tmp_path / "ours" / "long").glob("*.bin"))))
    n_items = int(np.fromfile(chunk, "<u4", 1)[0])
    cache = Cache(str(tmp_path / "theirs"), chunk_bytes=2**26, item_loader=TokensLoader(SEQUENCE_LENGTH))
    for number, ids in enumerate(expected_sequences(case, "long", SEQUENCE_LENGTH)[:n_items]):
        cache[number] = torch.from_numpy(np.array(ids, dtype))
    cache.done()
    cache.merge()
    assert (tmp_path / "theirs" / "chunk-0-0.bin").read_bytes() == chunk.read_bytes()
