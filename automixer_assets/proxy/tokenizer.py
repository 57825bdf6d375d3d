"""Tokenizers: a byte-level BPE trained on given texts, or any fast tokenizer from a local folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automixer_assets.errors import AutomixerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)
"""What a checkpoint folder takes over from its tokenizer's folder, as far as present."""
BYTES_AND_SPECIALS = 256 + 2


@dataclass(frozen=True)
class TrainedTokenizer:
    """What training reached: `vocab_size` may stay below `requested` when the texts have too few pairs to merge."""

    folder: Path
    vocab_size: int
    requested: int

    @property
    def shortfall(self) -> int:
        """Ids asked for but not reachable; 0 when all were found."""
        return self.requested - self.vocab_size


def train_tokenizer(texts: Iterator[str], vocab_size: int, out: Path) -> TrainedTokenizer:
    """Train a byte-level BPE and save it so that `AutoTokenizer.from_pretrained(out)` loads it.

    The same texts in the same order give the same file. `<|endoftext|>` is end, beginning and prefix token (id 0),
    `<|pad|>` pads (id 1); every byte is in the vocabulary, so no text is out of vocabulary.

    Raises:
        AutomixerError: there is no text, or `vocab_size` cannot even hold the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size < BYTES_AND_SPECIALS:
        raise AutomixerError(f"tokenizer.vocab_size={vocab_size} cannot hold the 256 bytes and two special tokens")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps(_CONFIG, indent=2) + "\n")
    return TrainedTokenizer(out, tokenizer.get_vocab_size(), vocab_size)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, from local files only; AutomixerError when absent or damaged."""
    from transformers import AutoTokenizer

    _tokenizer_json(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds here; every one means an unusable folder
        reason = " ".join(str(error).split())[:300]
        raise AutomixerError(f"cannot load the tokenizer in {folder}: {reason}; write or copy it again") from error


def tokenizer_digest(folder: Path) -> str:
    """sha256 (hex) of the content of `tokenizer.json`: it alone decides which ids a text becomes."""
    return hashlib.sha256(_tokenizer_json(folder).read_bytes()).hexdigest()


def encoding_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 (hex) of all that decides which ids a text becomes, however its file is formatted.

    Two releases of a library write the same tokenizer as different bytes; `tokenizer_digest` would tell them apart.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise AutomixerError(
            f"tokenizer {tokenizer.name_or_path!r} has no fast version (tokenizer.json), so it cannot be compared: "
            "save it as a fast tokenizer once"
        )
    document = json.loads(backend.to_str())
    encoding = {part: document.get(part) for part in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps(encoding, sort_keys=True).encode()).hexdigest()


def end_of_document(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends every document; AutomixerError when the tokenizer has no end-of-sequence token."""
    identifier = tokenizer.eos_token_id
    if not isinstance(identifier, int):
        raise AutomixerError(
            f"tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token; "
            "name one as `eos_token` in its tokenizer_config.json"
        )
    return identifier


def encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Ids of each text, without special tokens; a special token's name inside a text is encoded as plain text.

    Web text does contain `<|endoftext|>`: read as the real token it would split the document.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True) for text in texts]
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "pad_token": PADDING,
    "add_bos_token": False,
    "add_eos_token": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": 10**30,
}


def _tokenizer_json(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise AutomixerError(f"{path} is missing: {folder} holds no tokenizer; materialise it or mend tokenizer.path")
    return path


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    count = 0
    for text in texts:
        count += bool(text)
        yield text
    if count == 0:
        raise AutomixerError("there is no text to train the tokenizer on; mend tokenizer.snapshots")
