from __future__ import annotations

import pickle
import subprocess
import sys
from itertools import islice

import pytest

from automixer_assets_tests.mixture.tiny import Tiny, tiny_mixture


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    return tiny_mixture(tmp_path_factory.mktemp("lake"))


def test_the_dataset_yields_the_streams_sequences_as_tensors(tiny):
    import torch

    from automixer_assets.mixture.dataset import MixtureDataset
    from automixer_assets.mixture.stream import MixtureStream

    arguments = (tiny.manifest, tiny.root, tiny.snapshots)
    tensors = list(islice(MixtureDataset(*arguments, sequence_length=32), 20))
    arrays = list(islice(MixtureStream(*arguments, sequence_length=32), 20))
    assert all(tensor.dtype == torch.int64 and tensor.shape == (32,) for tensor in tensors)
    assert [tensor.tolist() for tensor in tensors] == [array.tolist() for array in arrays]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_each_sequence_once(tiny, workers):
    from torch.utils.data import DataLoader

    from automixer_assets.mixture.dataset import MixtureDataset

    dataset = MixtureDataset(tiny.manifest, tiny.root, tiny.snapshots, sequence_length=32)
    expected = [tensor.tolist() for tensor in islice(dataset, 12)]
    dataset = MixtureDataset(tiny.manifest, tiny.root, tiny.snapshots, sequence_length=32)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert [tensor.tolist() for tensor in islice(loader, 12)] == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers_resumes_at_the_next_sequence(tiny, workers):
    from torch.utils.data import DataLoader

    from automixer_assets.mixture.dataset import MixtureDataset

    def dataset() -> MixtureDataset:
        return MixtureDataset(tiny.manifest, tiny.root, tiny.snapshots, sequence_length=32)

    expected = [tensor.tolist() for tensor in islice(dataset(), 20)]
    trained = dataset()
    loader = DataLoader(trained, batch_size=None, num_workers=workers)
    assert [tensor.tolist() for tensor in islice(loader, 7)] == expected[:7]
    saved = dataset()
    saved.advance(7)
    resumed = dataset()
    resumed.load_state_dict(saved.state_dict())
    loader = DataLoader(resumed, batch_size=None, num_workers=workers)
    assert [tensor.tolist() for tensor in islice(loader, 13)] == expected[7:]


def test_the_dataset_can_be_sent_to_another_process(tiny):
    from automixer_assets.mixture.dataset import MixtureDataset

    dataset = MixtureDataset(tiny.manifest, tiny.root, tiny.snapshots, sequence_length=32)
    next(iter(dataset))
    copy = pickle.loads(pickle.dumps(dataset))
    assert next(iter(copy)).tolist() == next(iter(dataset)).tolist()


def test_importing_the_module_leaves_torch_alone():
    modules = "mixture.dataset, automixer_assets.mixture.build, automixer_assets.scorers.influence"
    code = f"import sys, automixer_assets.{modules}\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
