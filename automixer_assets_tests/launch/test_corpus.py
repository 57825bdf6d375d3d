"""Inventories and tokenising on a real Ray cluster: the local bytes; what is there stays; a blind node is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automixer_assets.corpus.inventory_parts import take_inventory_in_parts
from automixer_assets.corpus.tokenize import TokenizingJob, tokenize_snapshot
from automixer_assets.errors import AutomixerError
from automixer_assets.launch.job import corpus_launcher
from automixer_assets.proxy.tokenizer import train_tokenizer
from automixer_assets.settings.launchers import Launchers, RayCluster
from automixer_assets_tests.corpus.builders import inventory_of, texts, write_source
from automixer_assets_tests.launch.nodes import contents, require_ray

require_ray()
RAY = Launchers(corpus="ray", ray=RayCluster(workers=2, attempts=2, gpus_per_worker=1))


def test_an_inventory_is_that_of_the_local_pass(nodes: Any, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_source(tmp_path / "S" / f"{name}.parquet", [("in every file", "text"), ("empty", ""), *texts(12)])
    inventory_of(tmp_path / "S", tmp_path / "local", documents_per_shard=5)
    (tmp_path / "ray").mkdir()
    take_inventory_in_parts(
        tmp_path / "S", tmp_path / "ray", documents_per_shard=5, run=corpus_launcher(RAY, log=print)
    )
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_tokens_are_those_of_the_local_pass_and_finished_shards_stay(nodes: Any, tmp_path: Path) -> None:
    rows = texts(90)
    for name, part in (("a", rows[:50]), ("b", rows[50:])):
        write_source(tmp_path / "S" / f"{name}.parquet", part)
    inventory = inventory_of(tmp_path / "S", tmp_path / "inventory", documents_per_shard=20)
    tokenizer = train_tokenizer((text or "" for _, text in rows), 300, tmp_path / "tokenizer").folder
    folders = (inventory, tmp_path / "S", Path(str(tokenizer)))
    tokenize_snapshot(*folders, tmp_path / "local", snapshot="S")
    whole = contents(tmp_path / "local")
    (tmp_path / "ray").mkdir()
    for name in ("shard-00001.bin", "shard-00001.parquet"):
        (tmp_path / "ray" / name).write_bytes(whole[name])
    kept = (tmp_path / "ray" / "shard-00001.parquet").stat().st_mtime_ns
    done: list[int] = []
    tokenize_snapshot(
        *folders, tmp_path / "ray", snapshot="S", on_progress=done.append, run=corpus_launcher(RAY, log=print)
    )
    assert contents(tmp_path / "ray") == whole
    assert (tmp_path / "ray" / "shard-00001.parquet").stat().st_mtime_ns == kept
    assert sorted(done) == [10, 20, 20, 20, 20]


def test_a_node_that_does_not_see_the_inventory_is_named(nodes: Any, tmp_path: Path) -> None:
    job = TokenizingJob(tmp_path / "elsewhere", tmp_path, tmp_path, tmp_path)
    with pytest.raises(
        AutomixerError, match=r"could not start.* finds no \S+elsewhere: put the lake and the snapshots"
    ):
        corpus_launcher(RAY, log=print)(job, {"shard-00000": "shard-00000"}, print)
