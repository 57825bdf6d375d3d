"""Checkpoints on disk: names, and folders that appear whole or not at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_folder
from automixer_assets.proxy.quiet import quiet
from automixer_assets.proxy.tokenizer import TOKENIZER_FILES
from automixer_assets.proxy.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEY = re.compile(r"^(?P<proxy>.+)-step-(?P<step>\d{6,})$")
_FOLDER = re.compile(r"^step-(?P<step>\d{6,})$")


def checkpoint_key(proxy: str, step: int) -> str:
    """Partition key of a proxy's checkpoint: `demo-step-000480`."""
    return f"{proxy}-step-{step:06d}"


def parse_checkpoint_key(key: str) -> tuple[str, int]:
    """(proxy, step) of a checkpoint key; AutomixerError when it is none."""
    match = _KEY.match(key)
    if match is None:
        raise AutomixerError(f"{key!r} is not a checkpoint key; keys look like {checkpoint_key('demo', 480)!r}")
    return match["proxy"], int(match["step"])


def step_folder(step: int) -> str:
    """Folder name of a step below `checkpoints/`."""
    return f"step-{step:06d}"


def list_checkpoints(run: Path) -> dict[int, Path]:
    """Complete checkpoints of a run folder by step, ascending."""
    found = {
        int(match["step"]): path for path in (run / "checkpoints").glob("step-*") if (match := _FOLDER.match(path.name))
    }
    return dict(sorted(found.items()))


def write_checkpoint(
    model: PreTrainedModel, run: Path, step: int, tokenizer_folder: Path | None, world: World | None = None
) -> Path:
    """Write `checkpoints/step-NNNNNN` in Hugging Face layout; an older one of the same step is replaced.

    Every rank of a `world` calls this; one writes, of a sharded model after its parts came together.
    """
    target = run / "checkpoints" / step_folder(step)
    weights = None
    if world is not None and world.sharded:
        weights = {name: world.gather(tensor) for name, tensor in model.state_dict().items()}
    if world is not None and not world.writes:
        return target
    with atomic_folder(target) as folder:
        with quiet():
            model.save_pretrained(folder, state_dict=weights)
        if tokenizer_folder is not None:
            for source in filter(Path.is_file, (tokenizer_folder / name for name in TOKENIZER_FILES)):
                shutil.copyfile(source, folder / source.name)
    return target
