"""An inventory put together from parts is the one that was taken in one go, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automixer_assets.corpus.inventory_parts import take_inventory_in_parts
from automixer_assets.errors import AutomixerError
from automixer_assets.launch.job import run_here
from automixer_assets_tests.corpus.builders import Row, folder, inventory_of, texts, write_source

ROW = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["x", "y z", "", " ", None]))


def contents(inventory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(inventory.rglob("*")) if path.is_file())
    return {path.relative_to(inventory).as_posix(): path.read_bytes() for path in files}


def in_parts(snapshot: Path, out: Path, documents_per_shard: int) -> list[int]:
    """Rows of every file as it was done."""
    out.mkdir()
    done: list[int] = []
    take_inventory_in_parts(
        snapshot, out, documents_per_shard=documents_per_shard, run=run_here, on_progress=done.append
    )
    return done


@given(files=st.lists(st.lists(ROW, max_size=8), min_size=1, max_size=4), per_shard=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_parts_make_the_whole(files: list[list[Row]], per_shard: int) -> None:
    """Repeated, missing and empty ids and texts within files and across them."""
    with folder() as root:
        for index, rows in enumerate([[("sound", "text"), *files[0]], *files[1:]]):
            write_source(root / "S" / f"{index}.parquet", rows)
        inventory_of(root / "S", root / "whole", per_shard)
        in_parts(root / "S", root / "parts", per_shard)
        assert contents(root / "parts") == contents(root / "whole")


def test_progress_comes_by_file(tmp_path: Path) -> None:
    write_source(tmp_path / "S" / "a.parquet", texts(5))
    write_source(tmp_path / "S" / "b.parquet", [(f"b{i}", "text") for i in range(3)])
    assert in_parts(tmp_path / "S", tmp_path / "out", 2) == [5, 3]


def test_files_without_a_document_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "S" / "a.parquet", [("a", None), ("b", "")])
    with pytest.raises(AutomixerError, match="has no usable document: all of its 2 rows lack an id or a text"):
        in_parts(tmp_path / "S", tmp_path / "out", 2)
