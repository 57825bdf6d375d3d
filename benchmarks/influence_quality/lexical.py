"""Lexical scores: what counting words says about documents and tasks. Higher is closer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

SATURATION = 1.2
"""BM25's k1: how soon a word's further occurrences stop to count."""


def bm25(documents: Sequence[str], tasks: Sequence[Sequence[str]]) -> np.ndarray:
    """[n, m] Okapi BM25 of documents for tasks over pairs of neighbouring words.

    A task is one query: the pairs of all its items, each weighing log(1 + count). Without length normalisation (b = 0),
    since an effect of a document is sought, not an effect per word.
    """
    counts, queries = _counts(documents, tasks, words=(2, 2))  # [n, w], [m, w]
    containing = (counts > 0).sum(axis=0)  # [w]
    inverse_frequency = np.log1p((len(documents) - containing + 0.5) / (containing + 0.5))  # [w]
    saturated = counts * (SATURATION + 1) / (counts + SATURATION)  # [n, w]
    return (saturated * inverse_frequency) @ np.log1p(queries).T


def ngram_overlap(documents: Sequence[str], tasks: Sequence[Sequence[str]]) -> np.ndarray:
    """[n, m] share of a document's words and pairs of words that occur in the task's items."""
    counts, queries = _counts(documents, tasks, words=(1, 2))
    return counts @ (queries > 0).T / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _counts(
    documents: Sequence[str], tasks: Sequence[Sequence[str]], words: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Occurrences of each n-gram of the documents: [n, w] in them, [m, w] in each task's items."""
    vectorizer = CountVectorizer(ngram_range=words, token_pattern=r"\w+|[^\w\s]")
    counts = vectorizer.fit(documents).transform(documents).toarray().astype(float)  # [n, w]
    # No n-gram may span two items, so items are counted one by one.
    queries = [vectorizer.transform(items).toarray().sum(axis=0) for items in tasks]
    return counts, np.array(queries)
