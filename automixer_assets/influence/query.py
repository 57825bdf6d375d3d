"""Influence queries: the frozen directions that documents are scored against, and their files.

What belongs here: the query itself, merging, saving, loading, and the digest of a model folder.
What does not: fitting (see `fit.py`) and scoring (see `score.py`, `shard.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    from torch import Tensor

KERNEL_VERSION = "2"
"""Raised whenever the same inputs would score differently; part of every digest of a score."""

TENSORS, SIDECAR = "query.safetensors", "query.json"


@dataclass(frozen=True)
class Direction:
    """One task under one curvature: what a column of scores is measured against."""

    name: str
    curvature: str
    damping: Mapping[str, float]  # layer -> lambda_l; empty for a curvature without damping
    v_norm: Mapping[str, float]  # layer -> |v_l|
    weights: Mapping[str, float]  # task -> weight in the sum that v is


@dataclass(frozen=True)
class InfluenceQuery:
    """m directions: influence_k(x) = - sum over layers of r[layer][k] . grad_layer loss(x)  (paper, section 4).

    `v` holds the validation gradients as fitted; it is not saved, since scoring needs r alone.
    """

    directions: tuple[Direction, ...]
    loss: str
    tied: bool  # fitted on tied weights: "embedding" is the one matrix, input and output part added
    r: Mapping[str, Tensor]  # layer -> [m, rows, columns] of the layer's weight; [m, V, d] for embedding and head
    v: Mapping[str, Tensor] | None = None  # likewise

    @property
    def names(self) -> tuple[str, ...]:
        """Direction names, in the order of r's first axis and of the score columns."""
        return tuple(direction.name for direction in self.directions)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.r)

    @property
    def lambda_(self) -> dict[str, tuple[float | None, ...]]:
        """Per layer, lambda_l of every direction; None for a curvature without damping."""
        return {layer: tuple(d.damping.get(layer) for d in self.directions) for layer in self.r}

    def digest(self) -> str:
        """sha256, hex, over everything that scores depend on: directions, loss, tying and r."""
        import torch

        columns = [(direction.name, direction.curvature) for direction in self.directions]
        layers = [(layer, str(tensor.dtype), list(tensor.shape)) for layer, tensor in self.r.items()]
        digest = hashlib.sha256(json.dumps([columns, self.loss, self.tied, layers]).encode())
        for tensor in self.r.values():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def save(self, folder: Path, *, model_digest: str, tokenizer_digest: str) -> None:
        """Write `query.safetensors` and then `query.json`; the digests say what the query may be used with."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({layer: tensor.detach().cpu().contiguous() for layer, tensor in self.r.items()}, folder / TENSORS)
        sidecar = {
            "kernel_version": KERNEL_VERSION,
            "model_digest": model_digest,
            "tokenizer_digest": tokenizer_digest,
            "loss": self.loss,
            "tied": self.tied,
            "layers": list(self.layers),
            "directions": [
                {
                    "name": d.name,
                    "curvature": d.curvature,
                    "lambda": dict(d.damping),
                    "v_norm": dict(d.v_norm),
                    "weights": dict(d.weights),
                }
                for d in self.directions
            ],
        }
        (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1) + "\n")

    @staticmethod
    def load(folder: Path, *, model_digest: str, tokenizer_digest: str) -> InfluenceQuery:
        """Read a saved query for that model and tokenizer.

        Raises:
            AutomixerError: no query there, or it was fitted on another model, tokenizer or kernel version.
        """
        from safetensors.torch import load_file

        if not (folder / SIDECAR).exists() or not (folder / TENSORS).exists():
            raise AutomixerError(f"{folder} holds no influence query: fit one and save it there")
        sidecar: dict[str, Any] = json.loads((folder / SIDECAR).read_text())
        expected = {
            "model_digest": model_digest,
            "tokenizer_digest": tokenizer_digest,
            "kernel_version": KERNEL_VERSION,
        }
        for key, value in expected.items():
            if sidecar[key] != value:
                raise AutomixerError(
                    f"the influence query in {folder} was fitted with {key} {sidecar[key]}, not {value}: fit it again"
                )
        tensors = load_file(folder / TENSORS)
        return InfluenceQuery(
            directions=tuple(
                Direction(d["name"], d["curvature"], d["lambda"], d["v_norm"], d["weights"])
                for d in sidecar["directions"]
            ),
            loss=sidecar["loss"],
            tied=sidecar["tied"],
            r={layer: tensors[layer] for layer in sidecar["layers"]},
        )


def merge_queries(queries: Mapping[str, InfluenceQuery]) -> InfluenceQuery:
    """One query with all directions, named LABEL_TASK, so that several curvatures or query texts take one pass.

    Raises:
        AutomixerError: nothing to merge, clashing names, or queries of different models, layers or losses.
    """
    import torch

    if not queries:
        raise AutomixerError("merge_queries got no query: give at least one {label: query}")
    first_label, first = next(iter(queries.items()))
    for label, query in queries.items():
        if _form(query) != _form(first):
            raise AutomixerError(
                f"queries '{first_label}' and '{label}' differ in layers, shapes, types or loss: "
                "fit both with the same model and options"
            )
    directions = tuple(
        replace(direction, name=f"{label}_{direction.name}")
        for label, query in queries.items()
        for direction in query.directions
    )
    _refuse_duplicates([direction.name for direction in directions])
    return InfluenceQuery(
        directions=directions,
        loss=first.loss,
        tied=first.tied,
        r={layer: torch.cat([query.r[layer] for query in queries.values()]) for layer in first.layers},
    )


def model_digest(folder: Path) -> str:
    """sha256, hex, over `config.json` and every `*.safetensors` file of a Hugging Face folder, in name order.

    Raises AutomixerError naming a file that the folder lacks.
    """
    weights = sorted(folder.glob("*.safetensors"))
    missing = _missing_files(folder, {path.name for path in weights})
    if missing:
        raise AutomixerError(
            f"{folder} is no Hugging Face model folder, for it lacks {', '.join(missing)}: copy the checkpoint again"
        )
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weights]:
        with path.open("rb") as file:
            digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _missing_files(folder: Path, weights: set[str]) -> list[str]:
    """`config.json`, and the weights that the index of a sharded checkpoint lists, or any at all."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [*missing, *sorted(set(json.loads(index.read_text())["weight_map"].values()) - weights)]
    return missing if weights else [*missing, "*.safetensors"]


def _form(query: InfluenceQuery) -> tuple[Any, ...]:
    return query.loss, query.tied, {layer: (tensor.shape[1:], tensor.dtype) for layer, tensor in query.r.items()}


def _refuse_duplicates(names: list[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise AutomixerError(f"direction names {', '.join(duplicates)} occur twice: choose other labels")
