"""What every method is given: one saved model, documents, and a query as dense matrices.

The query of a task is the plain gradient (no curvature) of one item's mean loss, so that libraries which want query
texts instead of a dense direction can be given that item and compute the same quantity: for document i and direction
k, sum over layers of r_k . grad loss_i, with the loss averaged over predicted tokens. All documents of a case have one
length: nobody pays for padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automixer_assets.influence import fit_query
from automixer_assets.proxy.model import build_model, load_model
from automixer_assets.proxy.quiet import quiet
from automixer_assets.settings import Architecture

ARCHITECTURE = Architecture(
    hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2
)
CONTEXT = 512
ITEM_TOKENS = 128
LAYERS = {"embedding + head": ("embedding", "head"), "head": ("head",), "last block": ("last_block",)}
VOCABULARIES, LENGTHS, DIRECTIONS = (4096, 32768), (128, 512), (1, 8)

Score = Callable[[], np.ndarray]
"""Scores all documents of a case: [n, m]."""


class CannotScore(Exception):
    """The method has no way to do this configuration; the message says why, in one line."""


@dataclass(frozen=True)
class Configuration:
    """One heading of the report."""

    layers: str  # a key of LAYERS
    vocabulary: int
    length: int  # tokens per document
    directions: int

    def __str__(self) -> str:
        plural = "s" if self.directions > 1 else ""
        return (
            f"{self.layers}, vocabulary {self.vocabulary}, documents of {self.length} tokens, "
            f"{self.directions} direction{plural}"
        )


@dataclass(frozen=True)
class Case:
    """A configuration as a method's process has it in memory, before anything of the method's own."""

    folder: Path  # its own, to write in
    model: Any  # a Llama in float32, evaluation mode
    documents: torch.Tensor  # [n, T]
    items: torch.Tensor  # [m, ITEM_TOKENS], one per task
    query: dict[str, torch.Tensor]  # module name -> r [m, rows, columns]
    batch_tokens: int

    @property
    def batches(self) -> list[list[int]]:
        """Document indices [B] of every batch, the same for all methods."""
        count, length = self.documents.shape
        size = max(1, self.batch_tokens // length)
        return [list(range(start, min(start + size, count))) for start in range(0, count, size)]

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Module name -> the weight that is differentiated."""
        return {name: self.model.get_submodule(name).weight for name in self.query}

    def dots(self, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
        """r . gradient [B, m] of materialised gradients, module name -> [B, rows, columns]."""
        return torch.stack([gradients[name].flatten(1) @ r.flatten(1).T for name, r in self.query.items()]).sum(dim=0)

    def freeze_below(self) -> None:
        """Leave one parameter trainable, just below the first scored layer, so that backward stops there.

        Hook-based libraries read gradients at the layers' outputs; without weight gradients they do no work twice.
        """
        self.model.requires_grad_(False)
        first = next(iter(self.query))
        if first == "lm_head":
            self.model.model.norm.weight.requires_grad_(True)
        elif first == "model.embed_tokens":
            self.model.get_input_embeddings().weight.requires_grad_(True)
        else:
            self.model.model.layers[-1].input_layernorm.weight.requires_grad_(True)


def mean_loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Per document [B], the mean next-token loss of ids [B, T]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # [B, T - 1, V]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.view(len(ids), -1).mean(dim=1)


def default_configurations() -> list[Configuration]:
    """A selection that takes about 15 minutes on one core: every layer set, every value of every factor."""
    return [
        Configuration("embedding + head", 4096, 128, 1),
        Configuration("embedding + head", 4096, 128, 8),
        Configuration("embedding + head", 4096, 512, 1),
        Configuration("embedding + head", 32768, 128, 1),
        Configuration("embedding + head", 32768, 512, 1),
        Configuration("head", 4096, 128, 1),
        Configuration("head", 4096, 512, 8),
        Configuration("head", 32768, 128, 1),
        Configuration("last block", 4096, 128, 1),
        Configuration("last block", 4096, 512, 8),
    ]


def all_configurations() -> list[Configuration]:
    """The full grid."""
    return [Configuration(*values) for values in product(LAYERS, VOCABULARIES, LENGTHS, DIRECTIONS)]


def write_case(configuration: Configuration, tokens: int, batch_tokens: int, folder: Path) -> None:
    """Save model, documents and fitted query, for processes that share nothing else."""
    from safetensors.torch import save_file

    model = build_model(ARCHITECTURE, configuration.vocabulary, CONTEXT, seed=0)
    with quiet():
        model.save_pretrained(folder / "model")
    generator = np.random.default_rng(0)
    documents = generator.integers(0, configuration.vocabulary, (tokens // configuration.length, configuration.length))
    items = generator.integers(0, configuration.vocabulary, (configuration.directions, ITEM_TOKENS))
    query = fit_query(
        model,
        {f"task_{k}": [(item.tolist(), [True] * ITEM_TOKENS)] for k, item in enumerate(items)},
        documents[:2].tolist(),
        layers=LAYERS[configuration.layers],
        curvature="identity",
    )
    query.save(folder / "query", model_digest="", tokenizer_digest="")
    tensors = {
        "documents": torch.from_numpy(documents),
        "items": torch.from_numpy(items),
        "batch_tokens": torch.tensor(batch_tokens),
    }
    save_file(tensors, folder / "texts.safetensors")


def read_case(folder: Path, own_folder: Path) -> Case:
    """The case that `write_case` saved in `folder`."""
    from safetensors.torch import load_file

    from automixer_assets.influence import InfluenceQuery

    query = InfluenceQuery.load(folder / "query", model_digest="", tokenizer_digest="")
    modules = {"embedding": "model.embed_tokens", "head": "lm_head"}
    texts = load_file(folder / "texts.safetensors")
    return Case(
        folder=own_folder,
        model=load_model(folder / "model"),
        documents=texts["documents"],
        items=texts["items"],
        query={modules.get(layer, layer): r for layer, r in query.r.items()},
        batch_tokens=int(texts["batch_tokens"]),
    )
