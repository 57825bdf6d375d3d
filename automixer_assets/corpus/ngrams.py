"""Find given word sequences in many texts: a hash of every window of words, looked up, then compared word for word.

Words are numbered by the vocabulary of the sequences that are looked for. A window with any other word cannot match,
so most of a text is never looked up. Memory: the index, and the words of the texts of one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64, in which hashes are computed."""
SLOT_BITS = 4
"""The table that turns most windows away has at least 2^4 slots per sequence."""
UNKNOWN = -1
OCCURRENCES = {"text": pl.Int64, "start": pl.Int64, "length": pl.Int64, "ngram": pl.Int64}


@dataclass(frozen=True)
class NumberedTexts:
    """Texts as word numbers, one after the other."""

    words: np.ndarray  # [N] UNKNOWN where the vocabulary lacks the word
    offsets: np.ndarray  # [number of texts + 1] where each text begins

    @cached_property
    def known(self) -> np.ndarray:
        """[N] how many known words of one text follow from each position on, its own included."""
        positions = np.arange(len(self.words))
        ends = np.repeat(self.offsets[1:], np.diff(self.offsets))
        ends[self.words == UNKNOWN] = positions[self.words == UNKNOWN]
        return np.minimum.accumulate(ends[::-1])[::-1] - positions

    def starts(self, length: int) -> np.ndarray:
        """Positions where a window of `length` known words of one text begins."""
        return np.flatnonzero(self.known >= length)

    def texts(self, positions: np.ndarray) -> np.ndarray:
        """Which texts words are in."""
        return np.searchsorted(self.offsets, positions, side="right") - 1

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The word numbers of windows, [len(starts), length]."""
        return self.words[starts[:, None] + np.arange(length)]


@dataclass(frozen=True)
class NgramTable:
    """The sequences of one length, by hash."""

    length: int
    hashes: np.ndarray  # [M] uint64, ascending, distinct
    words: np.ndarray  # [M, length] word numbers
    numbers: np.ndarray  # [M] numbers of the sequences among those of all lengths
    slots: np.ndarray  # [2^bits] bool: whether some hash begins with these bits

    def find(self, texts: NumberedTexts, starts: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of windows (start, hash) the starts of those in the table, and the numbers of their sequences."""
        likely = self.slots[_leading_bits(hashes, len(self.slots))]
        starts, hashes = starts[likely], hashes[likely]
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        same = self.hashes[places] == hashes
        starts, places = starts[same], places[same]
        equal = (texts.windows(starts, self.length) == self.words[places]).all(axis=1)
        return starts[equal], self.numbers[places[equal]]


@dataclass(frozen=True)
class NgramIndex:
    """Word sequences to look for, and whose they are.

    Attributes:
        owners: columns `ngram`, `owner`: a row per sequence and owner.
    """

    vocabulary: pl.Enum
    keys: np.ndarray  # [number of words + 1] uint64; the last is for unknown words and in no window that is looked up
    tables: tuple[NgramTable, ...]
    owners: pl.DataFrame

    def find(self, words: pl.Series) -> pl.DataFrame:
        """Every occurrence in texts that are given as lists of words.

        Returns:
            `text` (row of `words`), `start` (of its words), `length`, `ngram`; sorted by text, start and length.
        """
        texts = _numbered(words, self.vocabulary)
        sums = _running_sums(self.keys[texts.words])
        inverses = _powers(pow(BASE, -1, 2**64), len(texts.words))
        found = [pl.DataFrame(schema=OCCURRENCES)]
        for table in self.tables:
            starts = texts.starts(table.length)
            hashes = (sums[starts + table.length] - sums[starts]) * inverses[starts]
            starts, ngrams = table.find(texts, starts, hashes)
            inside = texts.texts(starts)
            columns = [inside, starts - texts.offsets[inside], np.full(len(starts), table.length), ngrams]
            found.append(pl.DataFrame(dict(zip(OCCURRENCES, columns, strict=True)), schema=OCCURRENCES))
        return pl.concat(found).sort("text", "start", "length")


def build_index(words: pl.Series, owners: Sequence[int], *, shortest: int, longest: int) -> NgramIndex:
    """Index texts by their windows of `longest` words, and texts of fewer words, but `shortest`, by all of them.

    Args:
        words: the texts as lists of words.
        owners: whose each text is.
    """
    vocabulary = pl.Enum(words.explode(empty_as_null=False).drop_nulls().unique().sort())
    texts = _numbered(words, vocabulary)
    indexed_by = np.minimum(words.list.len().to_numpy(), longest)  # [number of texts] length of its windows
    sequences, pairs = {}, []
    for length in range(shortest, longest + 1):
        starts = texts.starts(length)
        starts = starts[indexed_by[texts.texts(starts)] == length]
        distinct, numbers = np.unique(texts.windows(starts, length), axis=0, return_inverse=True)
        first = sum(map(len, sequences.values()))
        pairs.append(np.stack([numbers.reshape(-1) + first, np.asarray(owners)[texts.texts(starts)]], axis=1))
        sequences[length] = distinct
    found = pl.DataFrame(np.concatenate(pairs), schema={"ngram": pl.Int64, "owner": pl.Int64})
    return _hashed(vocabulary, sequences, found.unique().sort("ngram", "owner"))


def _hashed(vocabulary: pl.Enum, sequences: dict[int, np.ndarray], owners: pl.DataFrame) -> NgramIndex:
    keys = _separating_keys(len(vocabulary.categories) + 1, sequences)
    tables, first = [], 0
    for length, words in sequences.items():
        if len(words):
            tables.append(_table(length, first, _hashes(words, keys), words))
        first += len(words)
    return NgramIndex(vocabulary, keys, tuple(tables), owners)


def _separating_keys(n: int, sequences: dict[int, np.ndarray]) -> np.ndarray:
    """The first random keys that give all sequences of a length different hashes: as good as always the very first."""
    seed = 0
    while any(len(np.unique(_hashes(each, _random_keys(n, seed)))) < len(each) for each in sequences.values()):
        seed += 1
    return _random_keys(n, seed)


def _table(length: int, first: int, hashes: np.ndarray, words: np.ndarray) -> NgramTable:
    order = np.argsort(hashes)
    slots = np.zeros(2 ** (len(hashes).bit_length() + SLOT_BITS), dtype=bool)
    slots[_leading_bits(hashes, len(slots))] = True
    return NgramTable(length, hashes[order], words[order], first + order, slots)


def _numbered(words: pl.Series, vocabulary: pl.Enum) -> NumberedTexts:
    lengths = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode(empty_as_null=False).cast(pl.String)
    numbers = flat.cast(vocabulary, strict=False).to_physical().cast(pl.Int64).fill_null(UNKNOWN)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return NumberedTexts(numbers.to_numpy(), offsets)


def _random_keys(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def _hashes(windows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Of each window [K, length] the sum of key x BASE^position, modulo 2^64."""
    return (keys[windows] * _powers(BASE, windows.shape[1])).sum(axis=1, dtype=np.uint64)


def _running_sums(keys: np.ndarray) -> np.ndarray:
    """[N + 1] sums of key x BASE^position before each position: a window's hash is a difference, shifted back."""
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(keys * _powers(BASE, len(keys)), dtype=np.uint64)])


def _powers(base: int, n: int) -> np.ndarray:
    """base^0 ... base^(n - 1) modulo 2^64."""
    factors = np.full(n, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _leading_bits(hashes: np.ndarray, n_slots: int) -> np.ndarray:
    return hashes >> np.uint64(64 - (n_slots.bit_length() - 1))
