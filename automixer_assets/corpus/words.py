"""What a word is, for comparing texts: the same in documents and in benchmark items.

A text is brought to Unicode's NFKC form and lower-cased; a word is a longest run of letters, marks and digits (the
Unicode categories L, M and N). Everything else separates words, so spacing, line breaks and punctuation do not count.
In scripts that write no spaces a word is what stands between two marks of punctuation.
"""

from __future__ import annotations

import polars as pl

WORD = r"[\p{L}\p{M}\p{N}]+"


def normalised_words(texts: pl.Series) -> pl.Series:
    """The words of each text: a series of lists of strings, as long as `texts`; a null text has none."""
    return texts.fill_null("").str.normalize("NFKC").str.to_lowercase().str.extract_all(WORD)
