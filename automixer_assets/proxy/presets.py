"""Exact parameter counts of the presets: the table in docs/training.md."""

from __future__ import annotations

from automixer_assets.settings import Architecture
from automixer_assets.settings.presets import ARCHITECTURES

VOCABULARIES = (32_000, 128_256)
"""Llama 2's and Llama 3's."""


def parameter_table() -> str:
    """Markdown: preset, shape, parameters tied and untied at both vocabularies; * marks what the preset chooses."""
    columns = [
        f"{vocab_size:,} {'tied' if tied else 'untied'}" for vocab_size in VOCABULARIES for tied in (True, False)
    ]
    lines = [
        f"| preset | hidden | feed-forward | layers | heads (key/value) | {' | '.join(columns)} |",
        "|---" * (5 + len(columns)) + "|",
    ]
    for name in ARCHITECTURES:
        shape = Architecture.model_validate(name)
        heads = f"{shape.num_attention_heads} ({shape.num_key_value_heads})"
        counts = [_count(shape, vocab_size, tied) for vocab_size in VOCABULARIES for tied in (True, False)]
        cells = [name, shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers, heads, *counts]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _count(shape: Architecture, vocab_size: int, tied: bool) -> str:
    chosen = "*" if shape.tie_word_embeddings == tied else ""
    return f"{shape.model_copy(update={'tie_word_embeddings': tied}).parameters(vocab_size):,}{chosen}"
