"""Resume state: weights, AdamW moments, history and the data's place, so that a killed run goes on bit for bit.

The tensors are whole, whatever the world that wrote them: a run may go on with another number of processes.
`resume/step-NNNNNN/` holds `state.safetensors`, `history.parquet` and `state.json`; nothing is pickled. There is no
random state to keep: the model has no dropout and the data's order comes from a hash.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_folder
from automixer_assets.proxy.checkpoints import step_folder
from automixer_assets.proxy.world import World

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

FOLDER = "resume"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on: steps done, the rows of `training.parquet` so far, the data's state."""

    step: int
    history: list[dict[str, Any]]
    data: dict[str, Any]


def save_resume(
    run: Path,
    step: int,
    model: PreTrainedModel,
    optimizer: Optimizer,
    history: pl.DataFrame,
    world: World,
    *,
    identity: dict[str, Any],
    data: dict[str, Any],
) -> None:
    """Write the state after `step` steps, then remove older ones. Every rank calls this; one writes."""
    from safetensors.torch import save_file

    tensors = {}
    for name, parameter in model.named_parameters():  # a tied matrix appears once
        held = {"model": parameter, **{moment: optimizer.state[parameter][moment] for moment in _MOMENTS}}
        tensors |= {f"{kind}.{name}": world.gather(tensor) for kind, tensor in held.items()}
    if not world.writes:
        return
    with atomic_folder(run / FOLDER / step_folder(step)) as folder:
        save_file(tensors, folder / "state.safetensors")
        history.write_parquet(folder / "history.parquet")
        (folder / "state.json").write_text(json.dumps({"step": step, "identity": identity, "data": data}, indent=1))
    for older in _states(run)[:-1]:
        shutil.rmtree(older)


def load_resume(
    run: Path, model: PreTrainedModel, optimizer: Optimizer, world: World, *, identity: dict[str, Any]
) -> Resumed | None:
    """Put the newest state of `run` into model and optimizer; None when there is none.

    Raises:
        AutomixerError: the state belongs to a run with other settings or another model.
    """
    states = _states(run)
    if not states:
        return None
    folder = states[-1]
    document = json.loads((folder / "state.json").read_text())
    if document["identity"] != identity:
        raise AutomixerError(f"{folder} was left by a run with other settings; delete {run} to start anew")
    _restore(folder / "state.safetensors", document["step"], model, optimizer, world)
    return Resumed(document["step"], pl.read_parquet(folder / "history.parquet").to_dicts(), document["data"])


def remove_resume(run: Path) -> None:
    """Remove all states of a run that is complete on disk: one that is half removed cannot be read."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _restore(path: Path, step: int, model: PreTrainedModel, optimizer: Optimizer, world: World) -> None:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(world.part(tensors[f"model.{name}"], parameter))
            moments = {moment: world.part(tensors[f"{moment}.{name}"], parameter) for moment in _MOMENTS}
            count = torch.tensor(float(step), device=parameter.device)  # AdamW's own count of steps
            optimizer.state[parameter] = {"step": count, **moments}


def _states(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))
