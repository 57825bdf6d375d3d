"""Train a target on a mixture outside Dagster: alone, or in several processes under torchrun.

    torchrun --nproc-per-node 8 -m automixer_assets.mixture --settings SETTINGS.yaml --manifest manifest.json \
        --lake LAKE --seed 0 --corpus TOKENIZED_SNAPSHOT --tokenizer TOKENIZER --out RUN

The same command again goes on where a killed run stopped. `launchers.training: torchrun` starts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.launch.attached import Attached, Sharded, run_command, training_process
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.mixture.target import train_target
from automixer_assets.settings_file import load_settings


def run(
    settings: Annotated[Path, typer.Option(help="the settings file; its `targets` section is used")],
    manifest: Annotated[Path, typer.Option(help="manifest.json of the mixture")],
    lake: Annotated[Path, typer.Option(help="folder of the lake that holds the manifest's selections")],
    seed: Annotated[int, typer.Option(help="of the model's initialisation and the order of documents")],
    corpus: Annotated[list[Path], typer.Option(help="folder of a tokenised snapshot; once for each of the mixture's")],
    tokenizer: Annotated[Path, typer.Option(help="folder of the tokenizer; its files go into every checkpoint")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    sharded: Sharded = False,
    attached: Attached = False,
) -> None:
    """Train a target into a folder, or go on with the run that the folder holds."""
    targets, mixture = load_settings(settings).targets, load_manifest(manifest)
    if targets is None:
        raise AutomixerError(f"{settings} has no `targets` section: add one to train on a mixture")
    corpora = {snapshot.snapshot: snapshot for snapshot in map(open_tokenized, corpus)}
    steps = targets.training.steps
    with training_process(mixture.mixture, steps, sharded=sharded, attached=attached) as here:
        train_target(
            targets,
            seed,
            mixture,
            lake,
            corpora,
            tokenizer,
            out,
            on_progress=here.on_progress,
            world=here.world,
        )
        here.log(f"{steps} steps: {out}")


def main() -> None:
    run_command(run)


if __name__ == "__main__":
    main()
