"""Claims about the trained tokenizer and about encoding documents."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.tokenizer import (
    encode_batch,
    end_of_document,
    load_tokenizer,
    tokenizer_digest,
    train_tokenizer,
)

TEXTS = [f"The river number {i} flows to the sea past {i * 3} villages, über Köln, 東京. " * 3 for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer(iter(TEXTS), 400, tmp_path_factory.mktemp("tokenizer")).folder


def test_transformers_loads_it_with_its_special_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == 400
    assert end_of_document(tokenizer) == tokenizer.bos_token_id == 0
    assert tokenizer.pad_token_id == 1
    assert tokenizer.encode("flows") == tokenizer.encode("flows", add_special_tokens=False)


def test_the_same_texts_give_the_same_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    train_tokenizer(iter(TEXTS), 400, tmp_path)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(folder)
    assert tokenizer_digest(folder) == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def test_the_reachable_vocabulary_is_reported(tmp_path: Path) -> None:
    trained = train_tokenizer(iter(["abc abc"]), 1000, tmp_path)
    assert trained.vocab_size == len(load_tokenizer(tmp_path)) < 1000
    assert trained.shortfall == 1000 - trained.vocab_size


@given(st.lists(st.text(max_size=60), max_size=5))
@settings(max_examples=60, deadline=None)
def test_every_text_comes_back(folder: Path, texts: list[str]) -> None:
    tokenizer = load_tokenizer(folder)
    encoded = encode_batch(tokenizer, texts)
    assert [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in encoded] == texts


def test_a_document_that_mentions_the_end_token_is_not_split(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    text = "GPT ends with <|endoftext|> and pads with <|pad|>"
    (ids,) = encode_batch(tokenizer, [text])
    assert not {0, 1} & set(ids)
    assert tokenizer.decode(ids) == text
    assert 0 in tokenizer.encode(text)  # the tokenizer itself is left as it was


def test_bad_inputs_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(AutomixerError, match="no text to train the tokenizer on"):
        train_tokenizer(iter(["", ""]), 400, tmp_path)
    with pytest.raises(AutomixerError, match=r"vocab_size=200 cannot hold"):
        train_tokenizer(iter(TEXTS), 200, tmp_path)
    with pytest.raises(AutomixerError, match=r"tokenizer.json is missing"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(AutomixerError, match="cannot load the tokenizer"):
        load_tokenizer(tmp_path)
    without = load_tokenizer(folder)
    without.eos_token = None
    with pytest.raises(AutomixerError, match="no end-of-sequence token"):
        end_of_document(without)
