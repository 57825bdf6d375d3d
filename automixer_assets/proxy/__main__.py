"""Train a proxy outside Dagster: alone, or on several GPUs or machines under torchrun.

    python -m automixer_assets.proxy --settings configs/fineweb-edu-350m.yaml --proxy proxy-350m \
        --corpus TOKENIZED_SNAPSHOT --corpus TOKENIZED_SNAPSHOT --tokenizer TOKENIZER --out RUN
    torchrun --nproc-per-node 8 -m automixer_assets.proxy ... --sharded

The same command again goes on where a killed run stopped. docs/training.md says how the run becomes `proxy_run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from automixer_assets.launch.attached import Attached, Sharded, run_command, training_process
from automixer_assets.proxy.simulation import simulate
from automixer_assets.settings_file import load_settings


def run(
    settings: Annotated[Path, typer.Option(help="the settings file")],
    proxy: Annotated[str, typer.Option(help="which of its proxies to train")],
    corpus: Annotated[list[Path], typer.Option(help="folder of a tokenised snapshot; once for each, in order")],
    tokenizer: Annotated[Path, typer.Option(help="folder of the tokenizer; its files go into every checkpoint")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    sharded: Sharded = False,
    attached: Attached = False,
) -> None:
    """Train a proxy into a folder, or go on with the run that the folder holds."""
    chosen = load_settings(settings).trained_proxy(proxy)
    with training_process(proxy, chosen.training.steps, sharded=sharded, attached=attached) as here:
        finished = simulate(
            chosen, corpus, tokenizer, out, on_progress=here.on_progress, log=here.log, world=here.world
        )
        kept, loss = len(finished.checkpoints), finished.final_loss
        here.log(f"{finished.steps} steps, {kept} checkpoints, loss {loss:.3f}: {out}")


def main() -> None:
    run_command(run)


if __name__ == "__main__":
    main()
