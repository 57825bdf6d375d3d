"""The simulation run of a proxy as the settings describe it (paper, section 3), here or on a cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.progress import Progress
from automixer_assets.proxy.checkpoints import list_checkpoints
from automixer_assets.proxy.train import RUN_FILE, ProgressCallback, TrainingRun, train
from automixer_assets.proxy.world import World
from automixer_assets.settings import Proxy


def simulate(
    proxy: Proxy,
    corpora: Sequence[Path],
    tokenizer: Path,
    out: Path,
    *,
    on_progress: ProgressCallback | None = None,
    log: Callable[[str], None] = lambda line: None,
    world: World | None = None,
) -> TrainingRun:
    """Train the proxy on its tokenised snapshots, or go on with the run that `out` holds; see `train`.

    `corpora` are folders of `tokenized_corpus`, in the order of `proxy.snapshots`.

    Raises:
        AutomixerError: a folder holds another snapshot than the settings name, or as in `train`.
    """
    from automixer_assets.proxy.data import PackedTokens
    from automixer_assets.proxy.model import build_model

    snapshots = _open_in_order(proxy, corpora)
    training, first = proxy.training, snapshots[0]
    length = training.sequence_length
    batches = PackedTokens(
        snapshots,
        sequence_length=length,
        batch_size=training.batch_size,
        seed=proxy.seed,
        snapshot_order=proxy.snapshot_order,
    )
    epochs = training.steps * training.batch_size / batches.sequences_per_epoch
    log(f"{training.tokens:,} tokens to train on: {epochs:,.2f} epochs of {', '.join(proxy.snapshots)}")
    model = build_model(proxy.architecture, first.vocab_size, length, proxy.seed, end_of_document=first.end_of_document)
    return train(
        model,
        batches,
        training,
        out=out,
        checkpoint_steps=proxy.checkpoint_steps,
        tokenizer_folder=tokenizer,
        on_progress=on_progress,
        world=world,
    )


def _open_in_order(proxy: Proxy, corpora: Sequence[Path]) -> list[TokenizedSnapshot]:
    snapshots = [open_tokenized(corpus) for corpus in corpora]
    given = [snapshot.snapshot for snapshot in snapshots]
    if given != list(proxy.snapshots):
        raise AutomixerError(
            f"the tokenised corpora are of {', '.join(given) or 'no snapshot'}, but the proxy reads "
            f"{', '.join(proxy.snapshots)}; give one folder for each, in that order"
        )
    return snapshots


def adopt_run(proxy: Proxy, corpora: Sequence[Path], tokenizer: Path, finished: Path, out: Path) -> None:
    """Copy a run that was trained elsewhere, after checking that it is the run that would be trained here.

    Raises:
        AutomixerError: `finished` is no finished run, lacks a checkpoint, or had other settings or data.
    """
    if not (finished / RUN_FILE).is_file():
        raise AutomixerError(
            f"{finished / RUN_FILE} is missing: trained_in must name the folder of a finished run "
            "(`python -m automixer_assets.proxy`)"
        )
    simulate(proxy, corpora, tokenizer, finished)  # trains nothing: it finds the run finished or says what differs
    if missing := sorted(set(proxy.checkpoint_steps) - set(list_checkpoints(finished))):
        raise AutomixerError(f"{finished} lacks the checkpoint of step {missing[0]}; copy the run's folder again")
    shutil.copytree(finished, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))


def reporter(progress: Progress) -> ProgressCallback:
    """Shows loss, learning rate and speed beside a bar of steps; steps of an earlier, killed run cost no time."""

    def report(step: int, loss: float, learning_rate: float, tokens_per_second: float) -> None:
        if progress.done == 0:
            progress.skip(step - 1)
        progress.advance(1, f"loss {loss:.3f}, lr {learning_rate:.1e}, {tokens_per_second:,.0f} tokens/s")

    return report
