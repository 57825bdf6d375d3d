"""Tiny models, documents and validation items, the same for every test of this folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

VOCABULARY = 41
CONTEXT = 12

Items = list[tuple[list[int], list[bool]]]


def llama(tied: bool = False, kv_heads: int = 2, context: int = CONTEXT, **config: Any) -> PreTrainedModel:
    return _randomised(
        LlamaForCausalLM,
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            max_position_embeddings=context,
            tie_word_embeddings=tied,
            **config,
        ),
    )


def gpt2() -> PreTrainedModel:
    """Tied, learned positions, dropout in its configuration."""
    return _randomised(
        GPT2LMHeadModel, GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT)
    )


def gpt_neox() -> PreTrainedModel:
    """Untied, partial rotary, parallel residual."""
    return _randomised(
        GPTNeoXForCausalLM,
        GPTNeoXConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
        ),
    )


def _randomised(kind: type[Any], config: Any) -> PreTrainedModel:
    """Weights large enough that every gradient matters."""
    torch.manual_seed(3)
    model = kind(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def matrices(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """The embedding and output matrices, by layer; the same object twice when they are tied."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    assert isinstance(head, torch.nn.Linear)
    return {"embedding": embedding.weight, "head": head.weight}  # pyright: ignore[reportReturnType]


def documents(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random ids with repeats, so that rows of the embedding's gradient add up."""
    rng = random.Random(seed)
    return [[rng.randrange(VOCABULARY // (1 + i % 2)) for _ in range(length)] for i, length in enumerate(lengths)]


def whole(ids: list[int]) -> tuple[list[int], list[bool]]:
    """A validation item that counts every token but the first."""
    return ids, [position > 0 for position in range(len(ids))]


def tasks() -> dict[str, Items]:
    """Two tasks: one with answer masks and a text beyond the context, one of whole sequences."""
    answers = documents([9, 7, CONTEXT + 6], seed=10)
    return {
        "answers": [(ids, [i >= len(ids) - 2 - k for i in range(len(ids))]) for k, ids in enumerate(answers)],
        "sequences": [whole(ids) for ids in documents([6, 11, 8, 2], seed=11)],
    }


def reference() -> list[list[int]]:
    """Short, one-token and longer-than-context documents."""
    return documents([5, 1, 12, 9, 2 * CONTEXT + 3, 13, 7], seed=20)


def corpus() -> list[list[int]]:
    return documents([4, 12, 1, 30, 2, 13, 7, 7, 24, 3], seed=30)
