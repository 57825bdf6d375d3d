from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus.lexical import BUCKETS, K1, PRIOR_NGRAMS, B, LexicalQuery, fit_lexical, score_texts
from automixer_assets.errors import AutomixerError

ITEMS = {"cats": ["the cat sat on the mat", "a cat"], "dogs": ["the dog ran in the park"]}
REFERENCE = ["the cat and the dog", "numbers one two three", "the park is far away", "a mat is a mat"]


def reference_scores(items: dict[str, list[str]], reference: list[str], text: str) -> dict[str, float]:
    """The same by loops over strings, from the formulas."""

    def words(value: str) -> list[str]:
        return re.findall(r"\w+", value.lower())

    def ngrams(value: str) -> list[int]:
        hashes = [xxhash.xxh3_64_intdigest(word.encode()) for word in words(value)]
        pairs = [(a * 0x9E3779B97F4A7C15 + b) % 2**64 for a, b in itertools.pairwise(hashes)]
        return [value % BUCKETS for value in hashes + pairs]

    seen = Counter(bucket for each in reference for bucket in ngrams(each))
    total = sum(seen.values())
    background = {bucket: (seen[bucket] + 1) / (total + BUCKETS) for bucket in range(BUCKETS)}
    found = {"n_ngrams": float(len(ngrams(text)))}
    models = {}
    for task, texts in items.items():
        counts = Counter(bucket for each in texts for bucket in ngrams(each))
        n = sum(counts.values())
        models[task] = {b: (counts[b] + PRIOR_NGRAMS * background[b]) / (n + PRIOR_NGRAMS) for b in background}
    models["all"] = {b: sum(models[task][b] for task in items) / len(items) for b in background}
    for task, model in models.items():
        found[f"ngram_{task}"] = sum(math.log(model[b] / background[b]) for b in ngrams(text))
    mean_words = sum(len(words(each)) for each in reference) / len(reference)
    for task, texts in items.items():
        query = Counter(word for each in texts for word in words(each))
        score = 0.0
        for word, times in Counter(words(text)).items():
            containing = sum(word in words(each) for each in reference)
            inverse = math.log(1 + (len(reference) - containing + 0.5) / (containing + 0.5))
            saturated = times * (K1 + 1) / (times + K1 * (1 - B + B * len(words(text)) / mean_words))
            score += math.log(1 + query[word]) * inverse * saturated
        found[f"bm25_{task}"] = score
    return found


@pytest.mark.parametrize("text", ["the cat sat on the mat", "a dog ran far away", "nothing of it", "", "cat cat cat"])
def test_scores_are_those_of_the_formulas(text):
    row = score_texts(fit_lexical(ITEMS, REFERENCE), pl.Series([text])).row(0, named=True)
    assert row == pytest.approx(reference_scores(ITEMS, REFERENCE, text), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=5))
def test_a_texts_scores_do_not_depend_on_its_neighbours(texts):
    query = fit_lexical(ITEMS, REFERENCE)
    together = score_texts(query, pl.Series(texts, dtype=pl.String))
    alone = [score_texts(query, pl.Series([text], dtype=pl.String)) for text in texts]
    assert together.height == len(texts)
    for row, single in enumerate(alone):
        assert together.row(row) == pytest.approx(single.row(0), rel=1e-12, abs=1e-12)


def test_a_document_about_a_task_scores_higher_for_it():
    scores = score_texts(fit_lexical(ITEMS, REFERENCE), pl.Series(["a cat sat", "a dog ran"]))
    for kind in ("ngram", "bm25"):
        assert scores[f"{kind}_cats"][0] > scores[f"{kind}_cats"][1]
        assert scores[f"{kind}_dogs"][0] < scores[f"{kind}_dogs"][1]


def test_a_query_is_read_back_as_it_was_saved(tmp_path):
    query = fit_lexical(ITEMS, REFERENCE)
    query.save(tmp_path)
    found = LexicalQuery.load(tmp_path)
    assert (found.tasks, found.mean_words) == (query.tasks, query.mean_words)
    for name in ("log_ratio", "terms", "term_weights"):
        assert np.array_equal(getattr(found, name), getattr(query, name))


def test_texts_without_words_are_named():
    with pytest.raises(AutomixerError, match="dogs has none"):
        fit_lexical({"cats": ["a cat"], "dogs": ["..."]}, REFERENCE)
