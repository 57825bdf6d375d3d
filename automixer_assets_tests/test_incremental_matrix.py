"""A matrix of changes, one after the other in one world: exactly what each concerns runs, and old scores stay."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automixer_assets.assets import all_assets
from automixer_assets.partitions import SNAPSHOTS, register
from automixer_assets.resources import PROJECT_ROOT, Automixer
from automixer_assets.stale_scores import find_stale_scores
from automixer_assets_tests.automation.test_chain import drop_snapshot
from automixer_assets_tests.world import FIRST_SNAPSHOTS, MIXTURES, NEW_SNAPSHOT, World, fingerprints

SELECTION = '+key:"weight_manifest" or +key:"group_characteristics"'
"""All but the targets that judge mixtures: they follow every weight manifest, and take long."""


def of_mixture(*names: str) -> set[str]:
    made = ("grouped_shards", "weight_manifest", "group_characteristics")
    return {f"{asset}[{name}]" for name in names for asset in made}


def of_snapshots(*assets: str) -> set[str]:
    return {f"{asset}[{snapshot}]" for asset in assets for snapshot in FIRST_SNAPSHOTS}


JOINT = {f"joint_influence[demo|{snapshot}]" for snapshot in FIRST_SNAPSHOTS}


class Changes:
    """Settings that change one by one; `run` materialises and returns what ran."""

    def __init__(self, world: World) -> None:
        self.world, self.overrides = world, dict[str, Any]()

    def set(self, key: str, value: Any) -> set[str]:
        self.overrides[key] = value
        return self.run()

    def run(self) -> set[str]:
        return set(self.world.run(SELECTION, overrides=self.overrides))


def test_each_change_runs_exactly_what_it_concerns(world: World):
    change = Changes(world)
    old = fingerprints(world.lake.root / "checkpoint_influence")
    removal = world.state / "removal.txt"
    removal.write_text(f"{world.table('snapshot_inventory', FIRST_SNAPSHOTS[1], 'documents/*.parquet')['doc_id'][3]}\n")

    assert change.run() == set()
    assert change.set("mixtures.demo.token_budget", 4000) == {"weight_manifest[demo]"}
    assert change.set("mixtures.demo.top_share", 0.25) == of_mixture("demo")
    same = of_mixture("demo") - {"group_characteristics[demo]"}
    assert change.set("recipes.demo.group_tasks", "all") == JOINT | same, "as the groups' tasks are all tasks here"
    assert change.set("recipes.demo.normalisation", "z") == JOINT | of_mixture("demo")
    assert change.set("recipes.demo.alpha", "uniform") == {"selected_checkpoints[demo]"} | JOINT | of_mixture("demo")
    assert change.set("targets.seeds", [7]) == set(), "seeds of the targets concern no mixture"
    assert change.set("tasks.batch_size", 3) == set(), "how many at a time is no part of a result"
    removed = of_snapshots("removed_documents")
    assert change.set("corpus.removal_list", str(removal)) == removed | of_mixture(*MIXTURES)
    removal.write_text(removal.read_text() + "no-such-document\n")
    assert change.run() == removed, "the same documents are removed, so mixtures stay"

    drop_snapshot(world)
    register(world.instance, SNAPSHOTS, [NEW_SNAPSHOT])
    corpus = ("snapshot_inventory", "tokenized_corpus", "leakage", "removed_documents")
    assert change.run() == {
        *(f"{asset}[{NEW_SNAPSHOT}]" for asset in corpus),
        *(f"demo/checkpoint_influence[{checkpoint}|{NEW_SNAPSHOT}]" for checkpoint in world.checkpoints()),
        *(f"joint_influence[{recipe}|{NEW_SNAPSHOT}]" for recipe in MIXTURES),
        *of_mixture(*MIXTURES),
    }
    assert change.run() == set()
    assert old.items() <= fingerprints(world.lake.root / "checkpoint_influence").items(), (
        "bytes and times of old scores"
    )


def test_retraining_one_checkpoint_scores_that_checkpoint_again_and_looks_the_others_up(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    retrained, *kept = reversed(world.checkpoints())
    before = world.path("demo/proxy_run")
    versions = _versions(world, [retrained, *kept])
    old = fingerprints(world.lake.root / "checkpoint_influence")

    def train(*given: Any) -> None:
        """A run that differs from the former in one checkpoint's weights."""
        out = given[-1]
        shutil.copytree(before, out, dirs_exist_ok=True)
        (out / "_COMPLETE.json").unlink()
        _nudge(next(path for path in (out / "checkpoints").iterdir() if path.name.endswith(retrained[-6:])))

    monkeypatch.setattr("automixer_assets.assets.simulation.TRAINING_VERSION", "other")
    monkeypatch.setattr("automixer_assets.assets.simulation._train_proxy", train)
    for selection in ("+selected_checkpoints", "demo/proxy_checkpoints"):
        world.run(selection)
    assert set(world.checkpoints()) == {retrained, *kept}, "the tiny nudge moves no best step"
    with world.active():
        automixer = Automixer().frozen()
        (finding,) = find_stale_scores(world.instance, automixer, all_assets(automixer.settings()))
    assert finding.stale == [f"{retrained}|{snapshot}" for snapshot in FIRST_SNAPSHOTS]
    assert finding.current == len(kept) * len(FIRST_SNAPSHOTS)

    world.run("demo/influence_query")
    world.run("demo/checkpoint_influence")
    after = _versions(world, [retrained, *kept])
    assert {key for key in after if after[key] != versions[key]} == set(finding.stale)
    new = fingerprints(world.lake.root / "checkpoint_influence")
    assert old.items() <= new.items()
    assert len({Path(name).parts[0] for name in new.keys() - old.keys()}) == len(FIRST_SNAPSHOTS)


def _versions(world: World, checkpoints: list[str]) -> dict[str, str]:
    cells = [f"{checkpoint}|{snapshot}" for checkpoint in checkpoints for snapshot in FIRST_SNAPSHOTS]
    return {cell: world.latest("demo/checkpoint_influence", cell).pin.data_version for cell in cells}


def _nudge(checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1e-6
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_edited_docstrings_and_comments_run_nothing_and_edited_sql_runs_what_it_is_about(world: World, tmp_path: Path):
    """In a copy of the package, by the command, as after an edit."""
    package = tmp_path / "edited" / "automixer_assets"
    shutil.copytree(PROJECT_ROOT / "automixer_assets", package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("configs", "dagster.yaml"):
        (package.parent / name).symlink_to(PROJECT_ROOT / name)
    n_edited = sum(_reworded(path) for path in package.rglob("*.py"))
    for path in package.rglob("*.sql"):
        path.write_text(f"-- Another remark.\n{path.read_text()}")
    assert n_edited > 50
    assert _materialized(world, package.parent) == "0 materialised"

    density = package / "sql" / "group_density.sql"
    assert "fsum" in density.read_text()
    density.write_text(density.read_text().replace("fsum", "sum"))
    assert _materialized(world, package.parent) == f"{len(MIXTURES)} materialised", "the two weight manifests"


def _reworded(path: Path) -> bool:
    """Add a sentence to the module's docstring, and a comment at the end."""
    text = path.read_text()
    reworded = re.sub(r'\A"""', '"""Reworded. ', text)
    path.write_text(f"{reworded}\n# A remark.\n")
    return reworded != text


def _materialized(world: World, root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "automixer_assets.cli", "materialize", SELECTION],
        env={**os.environ, **world.environment, "PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition(",")[0]
