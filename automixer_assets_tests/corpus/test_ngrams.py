"""Word sequences are found exactly: against plain Python, under equal hashes, and at the borders of texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus import ngrams
from automixer_assets.corpus.ngrams import build_index
from automixer_assets.corpus.words import normalised_words

SHORTEST, LONGEST = 2, 4
few_words = st.lists(st.sampled_from(["a", "b", "c", "x"]), max_size=12)
quick = settings(max_examples=60, deadline=None)


def words_by_character(text: str) -> list[str]:
    """The definition of a word, one character at a time."""
    kept = [
        character if unicodedata.category(character)[0] in "LMN" else " "
        for character in unicodedata.normalize("NFKC", text).lower()
    ]
    return "".join(kept).split()


def sequences_of(words: Sequence[str]) -> set[tuple[str, ...]]:
    length = min(len(words), LONGEST)
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)} if length >= SHORTEST else set()


def index_of(items: Sequence[Sequence[str]]) -> ngrams.NgramIndex:
    texts = pl.Series(items, dtype=pl.List(pl.String))
    return build_index(texts, range(len(items)), shortest=SHORTEST, longest=LONGEST)


def found_by(index: ngrams.NgramIndex, texts: Sequence[list[str]]) -> set[tuple[int, int, tuple[str, ...], int]]:
    """(text, start, words, owner) of every occurrence."""
    occurrences = index.find(pl.Series(texts, dtype=pl.List(pl.String))).join(index.owners, on="ngram")
    return {
        (
            row["text"],
            row["start"],
            tuple(texts[row["text"]][row["start"] : row["start"] + row["length"]]),
            row["owner"],
        )
        for row in occurrences.iter_rows(named=True)
    }


def expected(
    items: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]
) -> set[tuple[int, int, tuple[str, ...], int]]:
    return {
        (number, start, sequence, owner)
        for owner, item in enumerate(items)
        for sequence in sequences_of(item)
        for number, text in enumerate(texts)
        for start in range(len(text) - len(sequence) + 1)
        if tuple(text[start : start + len(sequence)]) == sequence
    }


@quick
@given(items=st.lists(few_words, max_size=5), texts=st.lists(few_words, max_size=5))
def test_every_occurrence_is_found_and_nothing_else(items: list[list[str]], texts: list[list[str]]) -> None:
    assert found_by(index_of(items), texts) == expected(items, texts)


@quick
@given(items=st.lists(few_words, max_size=4), texts=st.lists(few_words, max_size=4))
def test_equal_hashes_are_told_apart_by_the_words(items: list[list[str]], texts: list[list[str]]) -> None:
    """With hashes of the words' numbers alone, nearly every window collides with some sequence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_random_keys", lambda n, seed: np.arange(n, dtype=np.uint64) * np.uint64(2**63 + seed))
        patch.setattr(ngrams, "_separating_keys", lambda n, sequences: ngrams._random_keys(n, 1))
        patch.setattr(ngrams, "BASE", 1)
        found = found_by(index_of(items), texts)
    assert found <= expected(items, texts)


def test_keys_under_which_two_sequences_have_one_hash_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seeds = ngrams._random_keys, []

    def first_constant(n: int, seed: int) -> np.ndarray:
        seeds.append(seed)
        return plain(n, seed) if seed else np.ones(n, np.uint64)

    monkeypatch.setattr(ngrams, "_random_keys", first_constant)
    index = index_of([["a", "b"], ["c", "x"]])
    assert set(seeds) == {0, 1}
    assert found_by(index, [["c", "x", "a", "b"]]) == {(0, 0, ("c", "x"), 1), (0, 2, ("a", "b"), 0)}


def test_a_window_ends_where_its_text_ends() -> None:
    assert found_by(index_of([["a", "b"]]), [["x", "a"], [], ["b", "a", "b"]]) == {(2, 1, ("a", "b"), 0)}


# Characters that were letters, digits or marks before Unicode 10, so that all Unicode tables agree on them.
characters = st.characters(max_codepoint=0x2FFF, exclude_categories=("Cn", "Cs", "Co"))


@quick
@given(texts=st.lists(st.text(characters, max_size=30), min_size=1, max_size=4))
def test_words_are_runs_of_letters_marks_and_digits(texts: list[str]) -> None:
    assert normalised_words(pl.Series(texts)).to_list() == [words_by_character(text) for text in texts]


def test_spacing_case_and_punctuation_do_not_count() -> None:
    texts = pl.Series(["The  Naïve\nfox—jumped, didn’t\tit?", "the nai\u0308ve fox jumped: DIDN'T IT", None, "  ...  "])
    first, second, missing, empty = normalised_words(texts).to_list()
    assert first == second == ["the", "naïve", "fox", "jumped", "didn", "t", "it"]
    assert missing == empty == []
