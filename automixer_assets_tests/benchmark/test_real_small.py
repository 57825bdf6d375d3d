"""Claims about the small real run's inputs: two snapshots in FineWeb's columns that the inventory takes as they are."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from automixer_assets.corpus.inventory import take_inventory
from automixer_assets.errors import AutomixerError
from automixer_assets.resources import PROJECT_ROOT
from automixer_assets.settings import Proxy
from automixer_assets.settings_file import load_settings
from benchmarks.real_small import SNAPSHOTS, Places, write_snapshots


def write_source(corpora: Path, source: str, count: int) -> None:
    rows = [
        {"text": f"{source} document {n} " + "word " * 100, "id": f"{source}-{n}", "source": source, "licence": "free",
         "origin": "here"}
        for n in range(count)
    ]  # fmt: skip
    corpora.mkdir(exist_ok=True)
    pl.DataFrame(rows).write_parquet(corpora / f"{source}.parquet")


def documents(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(out.glob("snapshots/*/*.parquet"))])


def test_snapshots_split_a_capped_sample_of_each_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_source(tmp_path / "corpora", "books", 90)
    write_source(tmp_path / "corpora", "logs", 8)
    write_snapshots(tmp_path / "corpora", tmp_path / "out", Places(0, 0, 40), characters=60)
    found = documents(tmp_path / "out")
    assert dict(found.group_by("file_path").len().iter_rows()) == {"books": 40, "logs": 8}
    assert found["id"].n_unique() == 48
    assert min(found.group_by("dump").len()["len"]) > 12
    assert found["text"].str.len_chars().max() in range(50, 61)
    assert all(not text.endswith((" ", "wor")) for text in found["text"])
    assert set(found["licence"]) == {"free"}
    assert "books: 40 documents" in capsys.readouterr().out


def test_a_larger_sample_contains_the_smaller_and_keeps_its_snapshots(tmp_path: Path) -> None:
    write_source(tmp_path / "corpora", "books", 90)
    for count in (10, 40):
        write_snapshots(tmp_path / "corpora", tmp_path / str(count), Places(0, 0, count), characters=60)
    few, many = (set(documents(tmp_path / str(count)).select("id", "dump").iter_rows()) for count in (10, 40))
    assert few < many


def test_held_out_documents_and_those_of_another_study_are_in_no_snapshot(tmp_path: Path) -> None:
    write_source(tmp_path / "corpora", "books", 90)
    write_source(tmp_path / "corpora", "logs", 12)
    write_snapshots(tmp_path / "corpora", tmp_path / "first", Places(5, 0, 30), characters=60)
    write_snapshots(tmp_path / "corpora", tmp_path / "second", Places(5, 30, 30), characters=60)
    held_out = [pl.read_parquet(tmp_path / study / "held_out.parquet") for study in ("first", "second")]
    assert held_out[0].equals(held_out[1])
    assert dict(held_out[0].group_by("source").len().iter_rows()) == {"books": 5, "logs": 5}
    first, second = (documents(tmp_path / study) for study in ("first", "second"))
    assert (first.height, second.height) == (30 + 7, 30)
    assert not set(first["id"]) & set(second["id"])
    assert not set(held_out[0]["text"]) & {*first["text"], *second["text"]}


def test_the_inventory_takes_the_snapshots(tmp_path: Path) -> None:
    write_source(tmp_path / "corpora", "books", 30)
    write_snapshots(tmp_path / "corpora", tmp_path / "out", Places(0, 0, 40), characters=60)
    kept = 0
    for snapshot in SNAPSHOTS:
        inventory = tmp_path / f"inventory-{snapshot}"
        inventory.mkdir()
        take_inventory(tmp_path / "out" / "snapshots" / snapshot, inventory, documents_per_shard=100)
        rows = pl.read_parquet(inventory / "documents" / "*.parquet")
        assert set(rows["licence"]) == {"free"}
        kept += rows.height
    assert kept == 30


def test_missing_corpora_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(AutomixerError, match=r"corpora holds no Parquet files"):
        write_snapshots(tmp_path / "corpora", tmp_path / "out", Places(0, 0, 40), 60)
    (tmp_path / "corpora").mkdir()
    pl.DataFrame({"text": ["a"], "id": ["b"], "source": ["c"]}).write_parquet(tmp_path / "corpora" / "c.parquet")
    with pytest.raises(AutomixerError, match=r"c.parquet has no column 'licence'; needed are text, id, source"):
        write_snapshots(tmp_path / "corpora", tmp_path / "out", Places(0, 0, 40), 60)


def test_the_config_names_what_the_script_writes() -> None:
    settings = load_settings(PROJECT_ROOT / "configs" / "real-small.yaml")
    assert settings.corpus.directory == "real-small/snapshots"
    assert settings.tasks.data.directory == "real-small/benchmarks"
    proxy = settings.proxy("real-small")
    assert isinstance(proxy, Proxy)
    assert set(proxy.snapshots) == set(SNAPSHOTS)
    assert len(settings.tasks.names) == 8
