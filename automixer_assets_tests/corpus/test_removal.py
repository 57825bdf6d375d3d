"""Removal lists: what is read from which kind of file, which documents an entry names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from automixer_assets.corpus.removal import DeclaredKind, match_documents, read_removal_list, write_removed
from automixer_assets.errors import AutomixerError
from automixer_assets_tests.corpus.builders import documents_of, inventory_of, write_source

HASH = "0123456789abcdef0123456789abcdef"


def entries_of(path: Path, kind: DeclaredKind = "detect") -> list[tuple[str, str, int]]:
    return read_removal_list(path, kind).rows()


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_text_file_names_a_document_a_line_and_kinds_are_detected(tmp_path: Path) -> None:
    lines = [
        "# asked for by the publisher",
        "",
        "<urn:uuid:1>",
        " https://a.org/x?y=1 ",
        HASH.upper(),
        "plain",
        "plain",
    ]
    assert entries_of(written(tmp_path / "list.txt", "\n".join(lines))) == [
        ("id", "<urn:uuid:1>", 3),
        ("url", "https://a.org/x?y=1", 4),
        ("content_hash", HASH, 5),
        ("id", "plain", 6),
    ]


def test_a_declared_kind_overrules_what_an_entry_looks_like(tmp_path: Path) -> None:
    path = written(tmp_path / "list.txt", f"{HASH}\nhttps://a.org")
    assert entries_of(path, "id") == [("id", HASH, 1), ("id", "https://a.org", 2)]


def test_a_table_says_by_its_columns_what_its_cells_are(tmp_path: Path) -> None:
    expected = [("id", "d1", 1), ("id", HASH, 2), ("url", "http://b.org", 1)]
    assert entries_of(written(tmp_path / "a.csv", f"why,id,url\nlaw,d1,http://b.org\n,{HASH},\n")) == expected
    assert entries_of(written(tmp_path / "a.tsv", f"doc_id\turl\nd1\thttp://b.org\n{HASH}\t\n")) == expected
    pl.DataFrame({"doc_id": ["d1", HASH], "url": ["http://b.org", None]}).write_parquet(tmp_path / "a.parquet")
    assert entries_of(tmp_path / "a.parquet") == expected


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def number_column(path: Path) -> None:
    pl.DataFrame({"id": [1, 2]}).write_parquet(path)


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        ("none.txt", None, "detect", "none.txt does not exist: correct corpus.removal_list or remove that setting"),
        ("list.txt", binary, "detect", "list.txt cannot be read ('utf-8' codec can't decode"),
        ("list.parquet", binary, "detect", "list.parquet cannot be read ("),
        ("list.csv", "a,b\n1,2\n", "detect", "columns 'id', 'doc_id', 'url', 'content_hash' (it has: a, b)"),
        ("list.parquet", number_column, "detect", "column 'id' is Int64, not text: write it as text"),
        ("list.csv", f"content_hash\n{HASH}\n{HASH}0\n", "detect", f"line 2: '{HASH}0' is not a content hash (32 hex"),
        ("list.txt", "\nexample.org/page", "url", "line 2: 'example.org/page' is not a URL (such as https://"),
        ("list.txt", "https://a.org", "content_hash", "line 1: 'https://a.org' is not a content hash (32 hexadecimal"),
        ("list.txt", "# nothing yet\n", "detect", "has no entry: add some, or remove corpus.removal_list"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: str | Callable[[Path], None] | None, kind: DeclaredKind, said: str
) -> None:
    path = tmp_path / name
    if callable(content):
        content(path)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(AutomixerError) as refused:
        read_removal_list(path, kind)
    assert str(refused.value).startswith(f"removal list {path}")
    assert said in str(refused.value)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Five documents in shards of two; d1 and d3 have one text, d2 and d4 one URL."""
    rows = [("d0", "zero"), ("d1", "copy"), ("d2", "two"), ("d3", "copy"), ("d4", "four")]
    urls = pa.array(["https://a.org/0", None, "https://a.org/2", "https://a.org/3", "https://a.org/2"])
    write_source(tmp_path / "snapshot" / "a.parquet", rows, {"url": urls})
    return inventory_of(tmp_path / "snapshot", tmp_path / "inventory", documents_per_shard=2)


def removed_by(inventory: Path, lines: list[str], out: Path) -> tuple[list[tuple[str, int, str]], list[str]]:
    out.mkdir()
    entries = read_removal_list(written(out / "list.txt", "\n".join(lines)))
    write_removed(sorted((inventory / "documents").iterdir()), entries, out, snapshot="S")
    removed = pl.read_parquet(out / "removed.parquet").select("shard", "row", "doc_id").rows()
    return removed, pl.read_parquet(out / "unmatched.parquet")["entry"].to_list()


def test_entries_name_documents_by_id_url_or_content(inventory: Path, tmp_path: Path) -> None:
    (content_hash,) = documents_of(inventory).filter(doc_id="d1")["content_hash"]
    d1, d2, d3, d4 = (
        ("shard-00000", 1, "d1"),
        ("shard-00001", 0, "d2"),
        ("shard-00001", 1, "d3"),
        ("shard-00002", 0, "d4"),
    )
    assert removed_by(inventory, ["d2"], tmp_path / "id") == ([d2], [])
    assert removed_by(inventory, ["https://a.org/2"], tmp_path / "url") == ([d2, d4], [])
    assert removed_by(inventory, [content_hash.upper()], tmp_path / "hash") == ([d1, d3], [])


def test_entries_that_name_nothing_are_listed(inventory: Path, tmp_path: Path) -> None:
    lines = ["d9", "D2", "https://a.org", "d2", "https://a.org/2/"]
    removed, unmatched = removed_by(inventory, lines, tmp_path / "out")
    assert [doc_id for _, _, doc_id in removed] == ["d2"]
    assert unmatched == ["D2", "d9", "https://a.org", "https://a.org/2/"]


def test_a_document_that_two_entries_name_has_a_row_for_each(inventory: Path) -> None:
    shard = pl.read_parquet(inventory / "documents" / "shard-00001.parquet")
    entries = pl.DataFrame({"kind": ["id", "url"], "entry": ["d2", "https://a.org/2"], "line": [1, 2]})
    assert match_documents(shard, entries).select("row", "doc_id", "kind").rows() == [(0, "d2", "id"), (0, "d2", "url")]


def test_urls_are_refused_where_the_snapshot_has_none(tmp_path: Path) -> None:
    write_source(tmp_path / "snapshot" / "a.parquet", [("d0", "zero")])
    inventory = inventory_of(tmp_path / "snapshot", tmp_path / "inventory")
    with pytest.raises(
        AutomixerError, match=r"names URLs \(the first is 'https://a.org'\) but no document of snapshot S"
    ):
        removed_by(inventory, ["d0", "https://a.org"], tmp_path / "out")
