"""Claims about token shards: what a row points to, and when a folder is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus.shards import open_tokenized, shard_name, token_dtype, write_header
from automixer_assets.errors import AutomixerError
from automixer_assets_tests.corpus.builders import folder
from automixer_assets_tests.mixture.builders import write_tokenized

token_lists = st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=5), max_size=5)


@given(shards=st.lists(token_lists, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_every_row_gives_its_documents_ids(shards: list[list[list[int]]]) -> None:
    with folder() as root:
        contents = {
            shard_name(i): [(f"{i}-{row}", "h", ids) for row, ids in enumerate(documents)]
            for i, documents in enumerate(shards)
        }
        snapshot = write_tokenized(root, "S", contents)
        for shard, documents in zip(snapshot.shards, shards, strict=True):
            assert len(shard) == len(documents)
            assert [ids.tolist() for ids in shard.iter_tokens()] == documents
            assert [shard.document_tokens(row).tolist() for row in range(len(shard))] == documents
            assert len(shard.tokens) == sum(map(len, documents))


def test_ids_are_mapped_not_read(tmp_path: Path) -> None:
    (shard,) = write_tokenized(tmp_path, "S", {"shard-00000": [("a", "h", [1, 2])]}).shards
    assert isinstance(shard.tokens, np.memmap)
    assert not shard.tokens.flags.writeable


def test_the_header_comes_back_as_it_was_written(tmp_path: Path) -> None:
    header = {
        "snapshot": "S",
        "dtype": "<u4",
        "tokenizer_digest": "abc",
        "end_of_document": 5,
        "vocab_size": 70_000,
    }
    write_header(tmp_path, **header, shards=["shard-00000", "shard-00001"])
    opened = open_tokenized(tmp_path)
    assert {name: getattr(opened, name) for name in header} == header
    assert opened.shard_names == ("shard-00000", "shard-00001")


def test_a_folder_without_header_is_no_tokenised_snapshot(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"tokens\.json is missing: .* materialise tokenized_corpus"):
        open_tokenized(tmp_path)


def test_shard_names_sort_as_their_numbers() -> None:
    names = [shard_name(i) for i in (0, 9, 10, 99_999)]
    assert names == sorted(names)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, "<u2"), (65_536, "<u2"), (65_537, "<u4"), (128_256, "<u4")])
def test_ids_take_two_bytes_as_long_as_the_largest_fits(vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size) == dtype
    assert int(np.array([vocab_size - 1], dtype)[0]) == vocab_size - 1
