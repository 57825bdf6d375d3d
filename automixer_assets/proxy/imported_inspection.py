"""One imported checkpoint, looked at without loading its numbers: is it whole, what is it, which ids does it read?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import digest_of, file_sha256
from automixer_assets.proxy.model import (
    WEIGHTS,
    WEIGHTS_INDEX,
    check_vocabulary,
    outline_model,
    read_config,
    weight_files,
)
from automixer_assets.proxy.tokenizer import TOKENIZER_FILES, encoding_digest, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOT_ARCHITECTURE = ("transformers_version", "dtype", "torch_dtype", "_name_or_path", "architectures", "use_cache")
"""Options of a configuration that say how it was written, not what the model computes."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a checkpoint as it was when it was imported."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Inspection:
    """A usable checkpoint: what all checkpoints of a proxy must share, and its files."""

    configuration: dict[str, Any]
    encoding: str  # see `encoding_digest`
    tokenizer: Path
    parameters: int
    files: tuple[ModelFile, ...]


class Inspector:
    """Inspects folders; equal tokenizers are loaded once."""

    def __init__(self, tokenizer_folder: Path | None) -> None:
        self._tokenizer_folder = tokenizer_folder
        self._encodings: dict[str, str] = {}

    def inspect(self, folder: Path) -> Inspection:
        """Everything about the checkpoint that needs no forward pass.

        Raises:
            AutomixerError: it cannot be used, and why.
        """
        if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
            raise AutomixerError(
                f"{folder} has pickled weights only, which are never read: load it once where you trust it and write "
                "it with `save_pretrained`"
            )
        model = outline_model(folder)
        if model.get_output_embeddings() is None:
            raise AutomixerError(f"{folder} predicts no token: import a causal language model")
        tokenizer = self._tokenizer_of(folder)
        check_vocabulary(folder, read_config(folder), tokenizer)
        return Inspection(
            configuration=_configuration(model),
            encoding=self._encoding(tokenizer),
            tokenizer=tokenizer,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            files=tuple(ModelFile(p.name, p.stat().st_size, file_sha256(p)) for p in model_files(folder)),
        )

    def _tokenizer_of(self, folder: Path) -> Path:
        if (folder / "tokenizer.json").is_file():
            return folder
        if self._tokenizer_folder is None:
            raise AutomixerError(
                f"{folder} has no tokenizer.json: name a folder that has one as checkpoints_from.tokenizer"
            )
        return self._tokenizer_folder

    def _encoding(self, folder: Path) -> str:
        contents = digest_of([file_sha256(path) for path in tokenizer_files(folder)])
        if contents not in self._encodings:
            self._encodings[contents] = encoding_digest(load_tokenizer(folder))
        return self._encodings[contents]


def model_files(folder: Path) -> list[Path]:
    """The files that are the model: configuration and weights, with their index where they are sharded."""
    index = [] if (folder / WEIGHTS).is_file() else [folder / WEIGHTS_INDEX]
    return [folder / "config.json", *index, *weight_files(folder)]


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of the tokenizer in `folder`, as far as present."""
    return [path for path in (folder / name for name in TOKENIZER_FILES) if path.is_file()]


def _configuration(model: PreTrainedModel) -> dict[str, Any]:
    options = json.loads(json.dumps(model.config.to_dict(), default=str))
    return {name: value for name, value in sorted(options.items()) if name not in NOT_ARCHITECTURE}
