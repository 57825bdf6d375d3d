"""Repositories of checkpoints as others publish them, made here: tiny random models of several architectures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from automixer_assets.proxy.quiet import quiet
from automixer_assets.proxy.tokenizer import train_tokenizer

KINDS = ("llama", "llama-tied", "gpt_neox", "gpt_neox-tied", "gpt2", "gpt2-untied")
CONTEXT = 64


def write_tokenizer(folder: Path, vocabulary: int = 300, texts: Iterable[str] = ()) -> Path:
    """A byte-level BPE as large as the texts allow."""
    own = [f"the river and stone number {i} hold a copper lamp" for i in range(50)]
    return train_tokenizer(iter([*texts] or own), vocabulary, folder).folder


def random_model(kind: str, seed: int, vocabulary: int) -> Any:
    """A two-layer causal language model with random weights, far from uniform predictions."""
    import transformers as hf

    tied = kind.endswith("-tied") or kind == "gpt2"
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    common: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    torch.manual_seed(seed)
    if kind.startswith("llama"):
        config = hf.LlamaConfig(**sizes, **common, num_key_value_heads=1, max_position_embeddings=CONTEXT)
        model: Any = hf.LlamaForCausalLM(config)
    elif kind.startswith("gpt_neox"):
        model = hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**sizes, **common, max_position_embeddings=CONTEXT))
    else:
        model = hf.GPT2LMHeadModel(hf.GPT2Config(**sizes, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def write_repository(
    folder: Path,
    kind: str,
    steps: Sequence[int],
    tokenizer: Path,
    *,
    name: str = "step{}",
    **options: Any,
) -> Path:
    """A folder per step with model and tokenizer; `options` go to `save_pretrained`."""
    from transformers import AutoTokenizer

    loaded: Any = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    for step in steps:
        write_checkpoint(folder / name.format(step), random_model(kind, step, len(loaded)), loaded, **options)
    return folder


def write_checkpoint(folder: Path, model: Any, tokenizer: Any, **options: Any) -> Path:
    with quiet():
        model.save_pretrained(folder, **options)
        tokenizer.save_pretrained(folder)
    return folder
