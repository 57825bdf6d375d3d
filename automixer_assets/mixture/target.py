"""A target: a model trained on a mixture (paper, section 6), here or in one of several processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from automixer_assets.corpus.shards import TokenizedSnapshot
from automixer_assets.mixture.manifest import Manifest
from automixer_assets.proxy.train import ProgressCallback, TrainingRun, train
from automixer_assets.proxy.world import World
from automixer_assets.settings import Targets


def train_target(
    targets: Targets,
    seed: int,
    manifest: Manifest,
    lake_root: Path,
    corpora: Mapping[str, TokenizedSnapshot],
    tokenizer: Path,
    out: Path,
    *,
    on_progress: ProgressCallback | None = None,
    world: World | None = None,
) -> TrainingRun:
    """Train one target into `out`, or go on with the run that it holds; see `train`.

    `lake_root` is the folder below which the manifest's selections lie; every process reads the whole mixture and takes
    its rows of each batch.
    """
    from automixer_assets.mixture.dataset import MixtureDataset
    from automixer_assets.proxy.model import build_model

    training, first = targets.training, next(iter(corpora.values()))
    length = training.sequence_length
    return train(
        build_model(targets.architecture, first.vocab_size, length, seed, end_of_document=first.end_of_document),
        MixtureDataset(manifest, lake_root, corpora, sequence_length=length, seed=seed),
        training,
        out=out,
        checkpoint_steps=targets.checkpoint_steps,
        tokenizer_folder=tokenizer,
        on_progress=on_progress,
        world=world,
    )
