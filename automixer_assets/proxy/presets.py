"""The six decoder sizes of the paper as architectures, and how many parameters an architecture has."""

from __future__ import annotations

from automixer_assets.settings import Architecture


def _preset(hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int) -> Architecture:
    # The paper gives names, not shapes: these are Llama-3-style shapes (head size 64) whose count with a tied
    # 32k vocabulary comes closest to each name.
    return Architecture(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=True,
    )


PRESETS: dict[str, Architecture] = {
    "25M": _preset(320, 864, 14, 5, 1),
    "50M": _preset(448, 1216, 17, 7, 1),
    "75M": _preset(512, 1408, 20, 8, 4),
    "350M": _preset(960, 2560, 32, 15, 5),
    "500M": _preset(1152, 3072, 33, 18, 6),
    "1.5B": _preset(1600, 4352, 54, 25, 5),
}
"""Paper, Table 1: the proxies' sizes, named by parameters with a tied vocabulary of 32,000."""


def parameter_count(architecture: Architecture, vocab_size: int) -> int:
    """Parameters of the model that `build_model` makes, tied matrices counted once."""
    hidden = architecture.hidden_size
    key_value = hidden // architecture.num_attention_heads * architecture.num_key_value_heads
    attention = 2 * hidden * hidden + 2 * hidden * key_value  # query and output; key and value
    feed_forward = 3 * hidden * architecture.intermediate_size  # gate, up, down
    norms = 2 * hidden
    vocabulary = vocab_size * hidden * (1 if architecture.tie_word_embeddings else 2)
    return vocabulary + architecture.num_hidden_layers * (attention + feed_forward + norms) + hidden
