"""Invented names: pronounceable, unique, and in no dictionary, so that no pretrained model knows the answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "sk",
    "t",
    "tr",
    "v",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u")
ENDINGS = (
    "back",
    "dal",
    "gan",
    "kel",
    "lim",
    "lon",
    "mix",
    "nor",
    "poke",
    "rud",
    "sten",
    "tib",
    "vek",
    "vurn",
    "zam",
    "zell",
)


def invented_names(seed: int) -> Iterator[str]:
    """Lower-case names such as `glapoke`; any 110 in a row begin differently."""
    rng = random.Random(f"microworld names {seed}")
    starts = ["".join(parts) for parts in product(ONSETS, VOWELS)]
    rng.shuffle(starts)
    endings = {start: rng.sample(ENDINGS, len(ENDINGS)) for start in starts}
    for turn in range(len(ENDINGS)):
        yield from (start + endings[start][turn] for start in starts)
