from __future__ import annotations

import math

import polars as pl
import pytest
import torch

from automixer_assets.benchmark.held_out import bits_per_byte, read_held_out
from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.model import build_model
from automixer_assets.proxy.tokenizer import encode_batch, train_tokenizer
from automixer_assets.settings import Architecture

TEXTS = {
    "news": ["the river and the stone hold a lamp", "a winter bread", "river"],
    "prose": ["the forest lamp and the garden of copper hold music in the winter " * 3],
}
LENGTH = 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from automixer_assets.proxy.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer((text for texts in TEXTS.values() for text in texts), 300, folder)
    tokenizer = load_tokenizer(folder)
    shape = Architecture(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    return build_model(shape, len(tokenizer), LENGTH, 3, end_of_document=0).eval(), tokenizer


def test_bits_per_byte_are_those_of_predicting_token_by_token(trained):
    model, tokenizer = trained
    found = bits_per_byte(model, tokenizer, TEXTS, sequence_length=LENGTH, batch_size=2)
    for row in found.to_dicts():
        nats, predicted = 0.0, 0
        for ids in encode_batch(tokenizer, TEXTS[row["source"]]):
            for position in range(1, len(ids)):
                begin = (position - 1) // (LENGTH - 1) * (LENGTH - 1)
                with torch.inference_mode():
                    logits = model(input_ids=torch.tensor([ids[begin:position]])).logits[0, -1].double()
                nats -= float(logits.log_softmax(0)[ids[position]])
                predicted += 1
        n_bytes = sum(len(text.encode()) for text in TEXTS[row["source"]])
        assert predicted > 2 * LENGTH or row["source"] == "news"
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
        assert (row["n_documents"], row["n_bytes"]) == (len(TEXTS[row["source"]]), n_bytes)


def test_sources_are_read_in_name_order_without_empty_texts(tmp_path):
    path = tmp_path / "held_out.parquet"
    rows = {"source": ["b", "a", "a", "b"], "text": ["x", "y", "", None]}
    pl.DataFrame(rows).write_parquet(path)
    assert read_held_out(path) == {"a": ["y"], "b": ["x"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "does not exist"),
        ({"text": ["x"]}, "has no column 'source'"),
        ({"text": [""], "source": ["a"]}, "holds no text"),
    ],
)
def test_held_out_text_that_cannot_be_is_named(tmp_path, table, message):
    path = tmp_path / "held_out.parquet"
    if table is not None:
        pl.DataFrame(table).write_parquet(path)
    with pytest.raises(AutomixerError, match=message):
        read_held_out(path)
