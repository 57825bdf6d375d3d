"""The trainer's own tokenizer, where it is not the mixture's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from automixer_assets.corpus.shards import token_dtype
from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.tokenizer import encode_batch, end_of_document, load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Retokenizer:
    """Encodes texts as the trainer's tokenizer does, an end-of-document id after each."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder)
        self.digest = tokenizer_digest(folder)
        self.end_of_document = end_of_document(self._tokenizer)
        self.vocab_size = len(self._tokenizer)
        self.dtype = token_dtype(max(self.vocab_size, self.end_of_document + 1))

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, end-of-document id included."""
        return [[*ids, self.end_of_document] for ids in encode_batch(self._tokenizer, texts)]


def tokenizer_folder(path: Path) -> Path:
    """The folder of a tokenizer given as a folder or as its tokenizer.json.

    Raises:
        AutomixerError: there is no tokenizer.
    """
    folder = path.parent if path.name == "tokenizer.json" else path
    if not (folder / "tokenizer.json").is_file():
        raise AutomixerError(
            f"--tokenizer {path} is neither a tokenizer.json nor a folder that holds one: "
            "save the trainer's tokenizer with save_pretrained and name that folder"
        )
    return folder
