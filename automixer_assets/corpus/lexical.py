"""Lexical scores: what counting words says about documents and tasks. Higher is closer to the task.

Two of them, per task. `ngram`: the log importance weight of data selection by importance resampling (Xie et al. 2023,
DSIR): words and pairs of neighbouring words, hashed into `BUCKETS`, under a model of the task's items and a model of
the corpus. `bm25`: Okapi BM25 (Robertson and Zaragoza 2009) with all of a task's items as one query.

Models are fitted on the tasks' gradient items and on the frozen reference sample, so a document's scores depend on
the document and on constants alone. Words are those of `words.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import xxhash

from automixer_assets.corpus.words import normalised_words
from automixer_assets.errors import AutomixerError

LEXICAL_VERSION = "1"
"""Raise when words, models or columns change: every snapshot is then read again."""
BUCKETS = 10_000
"""As in DSIR."""
PRIOR_NGRAMS = 2000.0
"""A task's model is smoothed towards the corpus's as if it had seen that many n-grams of it (Dirichlet prior)."""
K1, B = 1.2, 0.75
PAIR = np.uint64(0x9E3779B97F4A7C15)
"""Odd; mixes the hash of a word with that of its successor."""
POOLED = "all"


@dataclass(frozen=True)
class LexicalQuery:
    """What documents are compared with.

    Attributes:
        tasks: names, in the order of the rows below.
        log_ratio: [m + 1, BUCKETS] log probability of an n-gram under the task minus under the corpus; the last row is
            for the mean of the tasks' models.
        terms: [K] hashes of the words of the items, ascending.
        term_weights: [m, K] inverse document frequency x log(1 + occurrences in the items).
        mean_words: average length of a reference document.
    """

    tasks: tuple[str, ...]
    log_ratio: np.ndarray
    terms: np.ndarray
    term_weights: np.ndarray
    mean_words: float

    def save(self, folder: Path) -> None:
        """Write `lexical_query.safetensors`; task names are its metadata."""
        from safetensors.numpy import save_file

        tensors = {
            "log_ratio": self.log_ratio,
            "terms": self.terms,
            "term_weights": self.term_weights,
            "mean_words": np.array([self.mean_words]),
        }
        save_file(tensors, folder / "lexical_query.safetensors", metadata={"tasks": "\n".join(self.tasks)})

    @classmethod
    def load(cls, folder: Path) -> LexicalQuery:
        from safetensors import safe_open

        with safe_open(folder / "lexical_query.safetensors", framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            tasks = tuple(file.metadata()["tasks"].split("\n"))
        return cls(
            tasks, tensors["log_ratio"], tensors["terms"], tensors["term_weights"], float(tensors["mean_words"][0])
        )


@dataclass(frozen=True)
class _Words:
    """Texts as word hashes, one after the other."""

    hashes: np.ndarray  # [N] uint64
    text: np.ndarray  # [N] which text a word is in
    n_texts: int

    @property
    def lengths(self) -> np.ndarray:
        return np.bincount(self.text, minlength=self.n_texts)  # [n_texts]

    def ngrams(self) -> tuple[np.ndarray, np.ndarray]:
        """Buckets of all words and pairs of neighbouring words, and which text each is in."""
        joined = self.text[1:] == self.text[:-1]
        pairs = (self.hashes[:-1] * PAIR + self.hashes[1:])[joined]
        buckets = (np.concatenate([self.hashes, pairs]) % np.uint64(BUCKETS)).astype(np.int64)
        return buckets, np.concatenate([self.text, self.text[1:][joined]])


def fit_lexical(items: Mapping[str, Sequence[str]], reference: Sequence[str]) -> LexicalQuery:
    """Fit the models of the tasks and of the corpus.

    Args:
        items: task -> texts of its gradient items.
        reference: texts of the reference sample.

    Raises:
        AutomixerError: a task or the sample without words.
    """
    corpus = _hash_words(pl.Series(list(reference), dtype=pl.String))
    queries = {task: _hash_words(pl.Series(list(texts), dtype=pl.String)) for task, texts in items.items()}
    for name, words in (("the reference sample", corpus), *queries.items()):
        if not len(words.hashes):
            raise AutomixerError(f"lexical scores need words, but {name} has none; check its texts")
    counts = np.bincount(corpus.ngrams()[0], minlength=BUCKETS)
    background = (counts + 1) / (counts.sum() + BUCKETS)  # [BUCKETS]
    models = np.stack([_model(words, background) for words in queries.values()])  # [m, BUCKETS]
    models = np.concatenate([models, models.mean(axis=0, keepdims=True)])
    terms = np.unique(np.concatenate([words.hashes for words in queries.values()]))
    occurrences = np.stack([_term_counts(words, terms).sum(axis=0) for words in queries.values()])  # [m, K]
    inverse = _inverse_document_frequency(corpus, terms)
    return LexicalQuery(
        tasks=tuple(queries),
        log_ratio=np.log(models) - np.log(background),
        terms=terms,
        term_weights=np.log1p(occurrences) * inverse,
        mean_words=float(corpus.lengths.mean()),
    )


def score_texts(query: LexicalQuery, texts: pl.Series) -> pl.DataFrame:
    """A row per text: `n_ngrams, ngram_TASK ..., ngram_all, bm25_TASK ...`; ngram is a sum over the text's n-grams."""
    words = _hash_words(texts)
    buckets, owner = words.ngrams()
    columns: dict[str, np.ndarray] = {"n_ngrams": np.bincount(owner, minlength=len(texts))}
    for task, ratio in zip((*query.tasks, POOLED), query.log_ratio, strict=True):
        columns[f"ngram_{task}"] = np.bincount(owner, weights=ratio[buckets], minlength=len(texts))
    for task, scores in zip(query.tasks, _bm25(query, words), strict=True):
        columns[f"bm25_{task}"] = scores
    return pl.DataFrame(columns)


def _hash_words(texts: pl.Series) -> _Words:
    words = normalised_words(texts)
    lengths = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode(empty_as_null=False, keep_nulls=False)
    distinct = flat.unique()
    keys = pl.Series([xxhash.xxh3_64_intdigest(word.encode()) for word in distinct], dtype=pl.UInt64)
    hashes = flat.replace_strict(distinct, keys, return_dtype=pl.UInt64).to_numpy() if len(flat) else np.empty(0, "u8")
    return _Words(hashes, np.repeat(np.arange(len(texts)), lengths), len(texts))


def _model(words: _Words, background: np.ndarray) -> np.ndarray:
    counts = np.bincount(words.ngrams()[0], minlength=BUCKETS)
    return (counts + PRIOR_NGRAMS * background) / (counts.sum() + PRIOR_NGRAMS)  # [BUCKETS]


def _term_counts(words: _Words, terms: np.ndarray) -> np.ndarray:
    """[texts, K] dense: for items and small samples only."""
    text, term = _known(words, terms)
    counts = np.bincount(text * len(terms) + term, minlength=words.n_texts * len(terms))
    return counts.reshape(words.n_texts, len(terms))


def _inverse_document_frequency(corpus: _Words, terms: np.ndarray) -> np.ndarray:
    text, term = _known(corpus, terms)
    pairs = np.unique(text * len(terms) + term)
    containing = np.bincount(pairs % len(terms), minlength=len(terms))  # [K]
    return np.log1p((corpus.n_texts - containing + 0.5) / (containing + 0.5))


def _bm25(query: LexicalQuery, words: _Words) -> np.ndarray:
    """[m, texts]."""
    text, term = _known(words, query.terms)
    pairs, occurrences = np.unique(text * len(query.terms) + term, return_counts=True)
    text, term = pairs // len(query.terms), pairs % len(query.terms)
    shrink = K1 * (1 - B + B * words.lengths[text] / query.mean_words)
    saturated = occurrences * (K1 + 1) / (occurrences + shrink)
    return np.stack(
        [
            np.bincount(text, weights=saturated * weights[term], minlength=words.n_texts)
            for weights in query.term_weights
        ]
    )


def _known(words: _Words, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which text and which term, for every word that is a term."""
    places = np.minimum(np.searchsorted(terms, words.hashes), len(terms) - 1)
    found = terms[places] == words.hashes
    return words.text[found], places[found]
