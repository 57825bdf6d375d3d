"""Someone's GPT-NeoX checkpoints go through the whole pipeline: no training, their tokenizer, one of them broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.proxy.tokenizer import encoding_digest, load_tokenizer
from automixer_assets_tests.proxy.repositories import write_repository, write_tokenizer
from automixer_assets_tests.world import FIRST_SNAPSHOTS, TOKEN_BUDGET, World, create_world, fingerprints, tiny_settings

STEPS = (0, 500, 1000)
N_TASKS = 3
CHAIN = "+weight_manifest"

pytestmark = pytest.mark.xdist_group("imported world")


def settings_of(repository: Path) -> dict[str, Any]:
    settings = tiny_settings()
    settings["tokenizer"] = {"proxy": "neox"}
    settings["tasks"]["names"] = settings["tasks"]["names"][:N_TASKS]
    settings["proxies"] = {"neox": {"checkpoints_from": {"directory": str(repository), "pattern": "step{step}"}}}
    settings["recipes"] = {"neox": {"profile": "robust", "proxy": "neox", "selection": "all"}}
    settings["mixtures"] = {"neox": {"recipe": "neox", "token_budget": TOKEN_BUDGET}}
    del settings["targets"]
    return settings


def create_neox_world(folder: Path) -> World:
    texts = ["The lighthouse keeper counted the copper lamps before the winter storm came.", "Which of these is it?"]
    tokenizer = write_tokenizer(folder / "tokenizer", 290, texts)
    repository = write_repository(folder / "published", "gpt_neox", STEPS, tokenizer)
    (repository / "step2000").mkdir()
    shutil.copy(repository / "step1000" / "config.json", repository / "step2000")
    (repository / "logs").mkdir()
    world = create_world(folder / "world")
    world.config.write_text(yaml.safe_dump(settings_of(repository)))
    return world


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = create_neox_world(tmp_path_factory.mktemp("neox"))
    world.run(CHAIN)
    yield world
    world.close()


def test_the_chain_ends_in_a_manifest_over_the_imported_steps(neox: World) -> None:
    manifest = load_manifest(neox.path("weight_manifest", "neox") / "manifest.json")
    assert [(group.checkpoint, group.step) for group in manifest.groups] == [
        (f"neox-step-{step:06d}", step) for step in STEPS if step > 0
    ]
    assert [group.alpha for group in manifest.groups] == pytest.approx([1 / 3, 2 / 3])
    assert sum(group.weight for group in manifest.groups) == pytest.approx(1)


def test_the_broken_checkpoint_is_reported_and_evaluated_nowhere(neox: World) -> None:
    found = neox.table("neox/proxy_run", None, "checkpoints.parquet")
    assert dict(found.select("step", "status").iter_rows()) == {**dict.fromkeys(STEPS, "usable"), 2000: "quarantined"}
    assert found.filter(pl.col("step") == 2000)["reason"].item().startswith("step2000/model.safetensors is missing")
    benchmark = neox.table("neox/benchmark_table", None, "benchmark.parquet")
    assert sorted(set(benchmark["step"])) == list(STEPS)
    assert dict(benchmark.select("step", "progress").iter_rows())[500] == 0.25


def test_weights_stay_where_they_are_and_selected_ones_are_kept(neox: World) -> None:
    assert not list(neox.path("neox/proxy_run").rglob("*.safetensors"))
    kept = {path.parent.name for path in (neox.lake.root / "proxy_checkpoints").rglob("model.safetensors")}
    assert len(kept) == 2
    copied = neox.path("neox/proxy_checkpoints", "neox-step-000500") / "model.safetensors"
    assert copied.read_bytes() == (neox.folder.parent / "published" / "step500" / "model.safetensors").read_bytes()


def test_the_corpus_is_tokenised_as_the_checkpoints_read_it(neox: World) -> None:
    own = encoding_digest(load_tokenizer(neox.folder.parent / "published" / "step500"))
    assert encoding_digest(load_tokenizer(neox.path("tokenizer"))) == own
    scores = neox.table("neox/checkpoint_influence", f"neox-step-000500|{FIRST_SNAPSHOTS[0]}", "shard-00000.parquet")
    influence = [column for column in scores.columns if column.startswith("influence_")]
    assert len(influence) == N_TASKS
    assert all(scores[column].is_finite().all() and scores[column].n_unique() > 10 for column in influence)


def test_a_repeated_run_does_nothing_and_a_moved_repository_stays_current(neox: World, tmp_path: Path) -> None:
    assert neox.run(CHAIN) == []
    world = neox.copy(tmp_path / "world")
    moved = shutil.copytree(neox.folder.parent / "published", tmp_path / "moved")  # modification times included
    world.config.write_text(yaml.safe_dump(settings_of(moved)))
    assert world.run(CHAIN) == []
    world.close()


def test_a_changed_checkpoint_is_imported_again_before_it_is_used(neox: World, tmp_path: Path) -> None:
    world = neox.copy(tmp_path / "world")
    repository = shutil.copytree(neox.folder.parent / "published", tmp_path / "published")
    world.config.write_text(yaml.safe_dump(settings_of(repository)))
    shutil.copy(repository / "step1000" / "model.safetensors", repository / "step500" / "model.safetensors")
    shutil.rmtree(world.lake.root / "proxy_checkpoints")
    with pytest.raises(AutomixerError, match="of checkpoint 'step500' changed since it was imported"):
        world.run("neox/proxy_checkpoints", "neox-step-000500")
    before = fingerprints(world.path("neox/checkpoint_influence", f"neox-step-001000|{FIRST_SNAPSHOTS[0]}"))
    ran = world.run(CHAIN)
    assert "neox/proxy_run" in ran
    assert f"neox/checkpoint_influence[neox-step-000500|{FIRST_SNAPSHOTS[0]}]" in ran
    assert not [name for name in ran if name.startswith(("tokenizer", "tokenized_corpus", "validation_items"))]
    assert fingerprints(world.path("neox/checkpoint_influence", f"neox-step-001000|{FIRST_SNAPSHOTS[0]}")) == before
    world.close()


def test_another_tokenizer_is_refused_with_both_named(neox: World, tmp_path: Path) -> None:
    world = neox.copy(tmp_path / "world")
    other = write_tokenizer(tmp_path / "other", 290)
    world.config.write_text(
        yaml.safe_dump(settings_of(neox.folder.parent / "published") | {"tokenizer": {"path": str(other)}})
    )
    with pytest.raises(AutomixerError, match=r"the tokenizer of this state .* proxy 'neox' brought .*\{proxy: neox\}"):
        world.run("+neox/benchmark_table")
    world.close()
