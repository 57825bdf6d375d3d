"""Claims about a proxy's run as the settings describe it: its data, its adoption, what is shown while it trains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.progress import Progress
from automixer_assets.proxy.data import PackedTokens
from automixer_assets.proxy.simulation import adopt_run, reporter, simulate
from automixer_assets.settings import Proxy
from automixer_assets_tests.proxy import several
from automixer_assets_tests.proxy.test_train import digests

LENGTHS = {"first": [[5, 9, 1, 30], [7] * 40], "second": [[3, 17, 2, 8, 40], [11] * 30]}


@pytest.fixture(scope="module")
def corpora(
    tmp_path_factory: pytest.TempPathFactory, make_snapshot: Callable[..., TokenizedSnapshot]
) -> list[TokenizedSnapshot]:
    folder = tmp_path_factory.mktemp("corpora")
    return [make_snapshot(folder / name, shards, name=name) for name, shards in LENGTHS.items()]


@pytest.fixture
def folders(corpora: list[TokenizedSnapshot]) -> list[Path]:
    return [corpus.folder for corpus in corpora]


def proxy(**options: Any) -> Proxy:
    given = {"snapshots": list(LENGTHS), "architecture": several.SHAPE, "training": several.TRAINING, "checkpoints": 2}
    return Proxy.model_validate(given | options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpora: list[TokenizedSnapshot]) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return simulate(proxy(), [corpus.folder for corpus in corpora], folder, folder / "run").folder


def stream(data: PackedTokens, epoch: int) -> np.ndarray:
    first = epoch * data.sequences_per_epoch
    return np.concatenate([data.sequence(first + i) for i in range(data.sequences_per_epoch)])


def ordered(corpora: list[TokenizedSnapshot], order: Any) -> PackedTokens:
    return PackedTokens(corpora, sequence_length=8, batch_size=2, seed=3, snapshot_order=order)


def test_as_listed_finishes_a_snapshot_before_the_next_in_another_order_each_epoch(
    corpora: list[TokenizedSnapshot],
) -> None:
    listed, mixed = ordered(corpora, "as_listed"), ordered(corpora, "mixed")
    sizes = [sum(map(sum, shards)) for shards in LENGTHS.values()]
    own = [sorted(np.concatenate([shard.tokens for shard in corpus.shards]).tolist()) for corpus in corpora]
    epochs = [stream(listed, epoch) for epoch in range(3)]
    for ids in epochs:
        assert sorted(ids[: sizes[0]].tolist()) == own[0]
    assert len({tuple(ids.tolist()) for ids in epochs}) == 3
    np.testing.assert_array_equal(stream(ordered(corpora, "as_listed"), 1), epochs[1])
    assert sorted(stream(mixed, 0)[: sizes[0]].tolist()) != own[0]


def test_the_order_is_part_of_what_a_resumed_run_must_find_again(corpora: list[TokenizedSnapshot]) -> None:
    with pytest.raises(AutomixerError, match="read other data"):
        ordered(corpora, "as_listed").load_state_dict(ordered(corpora, "mixed").state_dict())


def test_a_run_keeps_its_steps_and_says_how_often_it_sees_its_data(folders: list[Path], tmp_path: Path) -> None:
    lines: list[str] = []
    chosen = proxy(checkpoint_spacing="early_dense", checkpoints=3)
    run = simulate(chosen, folders, tmp_path, tmp_path / "run", log=lines.append)
    assert list(run.checkpoints) == chosen.checkpoint_steps == [1, 3, 12]
    sequences = sum(sum(map(sum, shards)) for shards in LENGTHS.values()) // 8
    assert lines == [f"384 tokens to train on: {48 / sequences:,.2f} epochs of first, second"]


def test_folders_of_other_snapshots_are_refused(folders: list[Path], tmp_path: Path) -> None:
    message = "are of second, first, but the proxy reads first, second; give one folder for each, in that order"
    with pytest.raises(AutomixerError, match=message):
        simulate(proxy(), folders[::-1], tmp_path, tmp_path / "run")


def test_a_run_finished_elsewhere_is_adopted_whole(trained: Path, folders: list[Path], tmp_path: Path) -> None:
    adopt_run(proxy(trained_in="anywhere"), folders, tmp_path, trained, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "run.json").unlink(), r"run\.json is missing: trained_in must name the folder of"),
        (lambda run: shutil.rmtree(run / "checkpoints/step-000006"), "lacks the checkpoint of step 6; copy the run's"),
    ],
)
def test_an_incomplete_run_is_not_adopted(
    change: Callable[[Path], None], message: str, trained: Path, folders: list[Path], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    change(run)
    with pytest.raises(AutomixerError, match=message):
        adopt_run(proxy(), folders, tmp_path, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"training": several.TRAINING | {"learning_rate": 0.02}}, "finished run with other settings"),
        ({"architecture": several.SHAPE | {"hidden_size": 32}}, "finished run with other settings"),
        ({"checkpoints": 3}, "finished run with other settings"),
        ({"seed": 1}, "read other data"),
        ({"snapshot_order": "as_listed"}, "read other data"),
    ],
)
def test_another_run_is_not_adopted(
    other: dict[str, Any], message: str, trained: Path, folders: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(AutomixerError, match=message):
        adopt_run(proxy(**other), folders, tmp_path, trained, tmp_path / "out")


def test_a_resumed_run_shows_its_own_speed_not_the_killed_ones() -> None:
    lines: list[str] = []
    progress = Progress("demo", 100, "steps", lines.append)
    report = reporter(progress)
    progress._started -= 10  # ten seconds ago
    report(91, 2.5, 1e-3, 640.0)
    progress._last_line -= 60
    report(92, 2.25, 1e-3, 640.0)
    assert lines == ["demo: 92 of 100 steps, 0 steps/s, 40 s left, loss 2.250, lr 1.0e-03, 640 tokens/s"]
