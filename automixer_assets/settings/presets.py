"""Presets of the simulation run: shapes by name, and the paper's training run.

A preset stands for plain values: `architecture: 350M` and the same numbers written out are the same settings.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

Preset = Mapping[str, Any]


def _llama(hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int, *, tied: bool) -> Preset:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "tie_word_embeddings": tied,
    }


# The paper gives names, not shapes: these are Llama-3-style shapes (head size 64) whose count with a tied vocabulary
# of 32,000 comes closest to each name. Exact counts: docs/training.md.
ARCHITECTURES: dict[str, Preset] = {
    "demo": _llama(96, 256, 2, 4, 2, tied=False),
    "25M": _llama(320, 864, 14, 5, 1, tied=True),
    "50M": _llama(448, 1216, 17, 7, 1, tied=True),
    "75M": _llama(512, 1408, 20, 8, 4, tied=True),
    "350M": _llama(960, 2560, 32, 15, 5, tied=True),
    "500M": _llama(1152, 3072, 33, 18, 6, tied=True),
    "1.5B": _llama(1600, 4352, 54, 25, 5, tied=True),
}
"""The micro-world's shape, then the paper's Table 1."""

TRAININGS: dict[str, Preset] = {
    # 100,000 steps x 32 sequences x 2,048 tokens = 6.55B tokens (section 3; the paper rounds to 6.4B). Learning rate,
    # warm-up and precision are not in the paper.
    "paper": {
        "steps": 100_000,
        "sequence_length": 2048,
        "batch_size": 32,
        "learning_rate": 6e-4,
        "warmup_steps": 2000,
        "precision": "bfloat16",
        "resume_every": 500,
    },
}


def from_preset(given: Any, presets: Mapping[str, Preset], kind: str) -> Any:
    """Plain values for a preset's name, or for a mapping with `preset` and what differs from it.

    Raises:
        ValueError: no preset has that name.
    """
    if isinstance(given, str | int | float):  # an unquoted number is a name misspelt, such as 75
        given = {"preset": given}
    if not isinstance(given, dict) or "preset" not in given:
        return given
    name = str(given["preset"])
    if name not in presets:
        close = difflib.get_close_matches(name.upper(), presets, n=1) or difflib.get_close_matches(name, presets, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no {kind} preset is called {name!r}{hint} (there are: {', '.join(presets)})")
    return {**presets[name], **{option: value for option, value in given.items() if option != "preset"}}
