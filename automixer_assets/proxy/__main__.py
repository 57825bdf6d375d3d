"""Train a proxy outside Dagster: alone, or on several GPUs or machines under torchrun.

    python -m automixer_assets.proxy --settings configs/fineweb-edu-350m.yaml --proxy proxy-350m \
        --corpus TOKENIZED_SNAPSHOT --corpus TOKENIZED_SNAPSHOT --tokenizer TOKENIZER --out RUN
    torchrun --nproc-per-node 8 -m automixer_assets.proxy ... --sharded

The same command again goes on where a killed run stopped. docs/training.md says how the run becomes `proxy_run`.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from automixer_assets.errors import AutomixerError
from automixer_assets.progress import progress
from automixer_assets.proxy.simulation import reporter, simulate
from automixer_assets.proxy.world import joined_world
from automixer_assets.settings_file import load_settings


def run(
    settings: Annotated[Path, typer.Option(help="the settings file")],
    proxy: Annotated[str, typer.Option(help="which of its proxies to train")],
    corpus: Annotated[list[Path], typer.Option(help="folder of a tokenised snapshot; once for each, in order")],
    tokenizer: Annotated[Path, typer.Option(help="folder of the tokenizer; its files go into every checkpoint")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    sharded: Annotated[
        bool, typer.Option("--sharded", help="spread the model over the processes, where it does not fit into one")
    ] = False,
) -> None:
    """Train a proxy into a folder, or go on with the run that the folder holds."""
    chosen = load_settings(settings).trained_proxy(proxy)
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(joined_world(sharded=sharded))
        log = _say if world.writes else _say_nothing
        report = None
        if world.writes:
            report = reporter(stack.enter_context(progress(proxy, chosen.training.steps, "steps", log)))
        finished = simulate(chosen, corpus, tokenizer, out, on_progress=report, log=log, world=world)
        log(f"{finished.steps} steps, {len(finished.checkpoints)} checkpoints, loss {finished.final_loss:.3f}: {out}")


def main() -> None:
    try:
        typer.run(run)
    except AutomixerError as error:
        _say(f"error: {error}")
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _say_nothing(line: str) -> None:
    """Every process but the first."""


if __name__ == "__main__":
    main()
