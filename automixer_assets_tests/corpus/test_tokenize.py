"""Claims about tokenised snapshots: texts come back, finished shards stay, changed sources are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus import inventory as inventory_module
from automixer_assets.corpus.inventory import read_texts, verify_sources
from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.corpus.tokenize import tokenize_snapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import file_sha256
from automixer_assets.proxy.tokenizer import load_tokenizer, tokenizer_digest, train_tokenizer
from automixer_assets_tests.corpus.builders import documents_of, inventory_of, texts, write_source

ROWS = [*texts(23), ("empty", ""), ("end", "a page about <|endoftext|> and <|pad|>"), ("last", " \u00a0x")]
KEPT = {doc_id: text for doc_id, text in ROWS if text}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tokenizer(iter(KEPT.values()), 300, tmp_path_factory.mktemp("tokenizer")).folder  # pyright: ignore[reportArgumentType]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A snapshot of two files."""
    write_source(tmp_path / "S" / "a.parquet", ROWS[:13], row_group_size=5)
    write_source(tmp_path / "S" / "b.parquet", ROWS[13:], row_group_size=5)
    return tmp_path / "S"


@pytest.fixture
def inventory(source: Path, tmp_path: Path) -> Path:
    return inventory_of(source, tmp_path / "inventory", documents_per_shard=8)


def tokenized(inventory: Path, source: Path, tokenizer: Path, out: Path) -> TokenizedSnapshot:
    out.mkdir(exist_ok=True)
    tokenize_snapshot(inventory, source, tokenizer, out, snapshot="S")
    return open_tokenized(out)


@given(data=st.data(), batch_rows=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_exactly_the_rows_asked_for_are_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, batch_rows: int
) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(ROWS) - 1))))
    snapshot = tmp_path_factory.getbasetemp() / "read-texts"
    if not snapshot.exists():
        write_source(snapshot / "a.parquet", ROWS, row_group_size=4)
    asked = pl.DataFrame({"file": ["a.parquet"] * len(rows), "row": rows}, schema={"file": pl.String, "row": pl.Int64})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory_module, "BATCH_ROWS", batch_rows)
        assert list(read_texts(snapshot, asked)) == [ROWS[row][1] for row in rows]


def test_texts_come_back_from_their_ids(inventory: Path, source: Path, tokenizer: Path, tmp_path: Path) -> None:
    snapshot = tokenized(inventory, source, tokenizer, tmp_path / "out")
    loaded, found = load_tokenizer(tokenizer), {}
    for shard in snapshot.shards:
        for doc_id, ids in zip(shard.documents["doc_id"], shard.iter_tokens(), strict=True):
            assert ids[-1] == snapshot.end_of_document == loaded.eos_token_id
            assert snapshot.end_of_document not in ids[:-1]
            found[doc_id] = loaded.decode(ids[:-1].tolist(), clean_up_tokenization_spaces=False)
    assert found == KEPT


def test_shards_are_the_inventorys_with_lengths_and_offsets(
    inventory: Path, source: Path, tokenizer: Path, tmp_path: Path
) -> None:
    snapshot = tokenized(inventory, source, tokenizer, tmp_path / "out")
    documents = pl.concat([shard.documents for shard in snapshot.shards])
    assert documents.drop("n_tokens", "offset").equals(documents_of(inventory))
    assert [len(shard) for shard in snapshot.shards] == [8, 5, 8, 4]
    for shard in snapshot.shards:
        assert shard.documents["offset"].to_list() == [0, *shard.documents["n_tokens"].cum_sum().to_list()[:-1]]
        assert shard.tokens_path.stat().st_size == 2 * int(shard.documents["n_tokens"].sum())
    assert (snapshot.snapshot, snapshot.dtype, snapshot.vocab_size) == ("S", "<u2", len(load_tokenizer(tokenizer)))
    assert snapshot.tokenizer_digest == tokenizer_digest(tokenizer)


def test_a_large_vocabulary_takes_four_bytes_an_id(inventory: Path, source: Path, tmp_path: Path) -> None:
    snapshot = tokenized(inventory, source, large_tokenizer(tmp_path / "large"), tmp_path / "out")
    assert snapshot.dtype == "<u4"
    highest = max(int(shard.tokens.max()) for shard in snapshot.shards)
    assert highest == snapshot.end_of_document == 70_000


def large_tokenizer(out: Path) -> Path:
    """A word-level tokenizer of 70,001 entries; the last is the end of a document."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"river": 0, "?": 1, **{f"w{i}": i for i in range(2, 70_000)}, "<end>": 70_000}
    built = Tokenizer(models.WordLevel(words, unk_token="?"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    out.mkdir()
    built.save(str(out / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}
    (out / "tokenizer_config.json").write_text(json.dumps(config))
    return out


def test_resuming_keeps_finished_shards_and_rewrites_the_others(
    inventory: Path, source: Path, tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tokenized(inventory, source, tokenizer, out)
    before = {path.name: (file_sha256(path), path.stat().st_mtime_ns) for path in out.iterdir()}
    (out / "tokens.json").unlink()
    (out / "shard-00001.parquet").unlink()  # killed after the ids, before the table that says the shard is whole
    np.zeros(3, "<u2").tofile(out / "shard-00001.bin")
    tokenized(inventory, source, tokenizer, out)
    after = {path.name: (file_sha256(path), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert {name: digest for name, (digest, _) in after.items()} == {
        name: digest for name, (digest, _) in before.items()
    }
    kept = [name for name in before if after[name][1] == before[name][1]]
    assert sorted(kept) == [f"shard-0000{i}.{suffix}" for i in (0, 2, 3) for suffix in ("bin", "parquet")]


def test_progress_counts_every_document_once(inventory: Path, source: Path, tokenizer: Path, tmp_path: Path) -> None:
    done: list[int] = []
    (tmp_path / "out").mkdir()
    tokenize_snapshot(inventory, source, tokenizer, tmp_path / "out", snapshot="S", on_progress=done.append)
    assert done == [8, 5, 8, 4]


def test_a_changed_or_missing_source_is_named(inventory: Path, source: Path, tokenizer: Path, tmp_path: Path) -> None:
    files = pl.read_parquet(inventory / "files.parquet")
    verify_sources(source, files)
    write_source(source / "b.parquet", ROWS[12:])
    with pytest.raises(
        AutomixerError, match=r"S/b\.parquet changed since the inventory: materialise snapshot_inventory"
    ):
        tokenized(inventory, source, tokenizer, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()), "nothing is written from sources that changed"
    (source / "a.parquet").unlink()
    with pytest.raises(AutomixerError, match=r"S/a\.parquet is gone since the inventory: restore it"):
        verify_sources(source, files)
